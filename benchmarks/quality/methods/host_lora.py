"""The host's own LoRA: its Train LoRA node trains, its LoRA loader applies.  The knob is the strength."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from typing import Any
from unittest import mock

import torch
from comfy_extras.nodes_train import LoraModelLoader, TrainLoraNode, TrainSampler
from perfusion_pack.nodes.host.text.encoders import encode_superclass_vectors
from perfusion_pack.nodes.host.training.latents import latent_masks
from perfusion_pack.perfusion_core.caption_templates import TEMPLATES
from perfusion_pack.perfusion_core.training_batch import masked_mean
from torch import Tensor

from ..workbench import Lesson, Workbench
from .gradient import rare_word, with_learned_words
from .protocol import Artefact, TensorMethod


class HostLora(TensorMethod):
    """A LoRA on all weights of the diffusion model, called by a rare word before the superclass.

    The node gets every picture, mirrored too, with every template.  By itself it runs each caption of a batch on all
    the pictures of the batch, and averages; here each picture goes with its own caption, which is the same as batches
    of one with accumulated gradients, and four times as fast.  It knows no masks; with the setting mask its loss is
    weighted as Perfusion's own is."""

    name = training = "host LoRA"
    version = 2
    defaults = {"steps": 300, "batch_size": 8, "learning_rate": 5e-4, "rank": 4, "mask": False}

    def train(self, bench: Workbench, lesson: Lesson, settings: Mapping[str, Any], seed: int) -> Artefact:
        options = self.complete(settings)
        word = {f"word.{key}": value for key, value in rare_word(bench, lesson).items()}
        vectors = encode_superclass_vectors(bench.clip, lesson.superclass)
        word |= {f"superclass.{key}": value for key, value in vectors.items()}
        artefact = Artefact(lesson.word, lesson.superclass, word)
        with torch.inference_mode():
            latents = bench.encode_pictures(torch.cat([lesson.pictures, lesson.pictures.flip(-1)]))
            clip = with_learned_words(bench.clip, [artefact])
            texts = [template.format(self.phrase(artefact, 1)) for template in TEMPLATES]
            captions = [clip.encode_from_tokens_scheduled(clip.tokenize(text))[0] for text in texts]
            with torch.random.fork_rng():
                torch.manual_seed(seed)
                weights = None
                if options["mask"]:
                    masks = latent_masks(lesson.masks, len(lesson.masks), latents.shape[-2:])
                    weights = torch.cat([masks, masks.flip(-1)]).repeat_interleave(len(captions), dim=0)
                lora = self._run_node(bench, latents, captions, options, seed, weights)
        tensors = {f"lora.{name}": tensor.detach().clone().cpu() for name, tensor in lora.items()}
        return Artefact(lesson.word, lesson.superclass, word | tensors)

    def _run_node(
        self, bench: Workbench, latents: Any, captions: list, options: Mapping[str, Any], seed: int,
        weights: Tensor | None,
    ) -> dict:  # fmt: skip
        model = bench.model.clone()
        arguments = {
            "model": model, "latents": {"samples": latents.repeat_interleave(len(captions), dim=0)},
            "positive": captions * len(latents), "batch_size": options["batch_size"],
            "steps": options["steps"], "grad_accumulation_steps": 1, "learning_rate": options["learning_rate"],
            "rank": options["rank"], "optimizer": "AdamW", "loss_function": "MSE", "seed": seed,
            "training_dtype": "fp32", "lora_dtype": "fp32", "quantized_backward": False, "algorithm": "LoRA",
            "gradient_checkpointing": False, "checkpoint_depth": 1, "offloading": False, "existing_lora": "[None]",
            "bucket_mode": False, "bypass_mode": False,
        }  # fmt: skip
        with mock.patch.object(TrainSampler, "fwd_bwd", _each_with_its_caption(TrainSampler.fwd_bwd, weights)):
            return TrainLoraNode.execute(**{name: [value] for name, value in arguments.items()}).args[0]

    def apply(self, bench: Workbench, artefacts: Sequence[Artefact], knob: float) -> tuple[Any, Any]:
        model = bench.painter
        for artefact in artefacts:
            lora = {n.removeprefix("lora."): t for n, t in artefact.tensors.items() if n.startswith("lora.")}
            model = LoraModelLoader.execute(model, lora, knob).args[0]
        return model, with_learned_words(bench.clip, artefacts)

    def phrase(self, artefact: Artefact, knob: float) -> str:
        return f"{artefact.word} {artefact.superclass}"


def _each_with_its_caption(fwd_bwd: Callable, weights: Tensor | None = None) -> Callable:
    """The node's forward and backward pass, with the encodings of a batch's captions as one conditioning.

    weights: of the places of every picture, [pictures, 1, H, W], None where all count the same."""

    def one_pass(
        sampler: Any, model: Any, sigmas: Any, noise: Any, latents: Any, conds: list, indices: list[int],
        extra: Mapping[str, Any], dataset_size: int, bwd: bool = True,
    ) -> Any:  # fmt: skip
        shown = [conds[index]["model_conds"] for index in indices]
        together = {
            name: type(cond)(torch.cat([of_one[name].cond for of_one in shown])) if torch.is_tensor(cond.cond) else cond
            for name, cond in shown[0].items()
        }
        merged = [{**conds[indices[0]], "model_conds": together}]
        loss = nullcontext() if weights is None else mock.patch.object(sampler, "loss_fn", _weighted(weights[indices]))
        with loss:
            return fwd_bwd(sampler, model, sigmas, noise, latents, merged, [0], extra, dataset_size=-1, bwd=bwd)

    return one_pass


def _weighted(weights: Tensor) -> Callable[[Tensor, Tensor], Tensor]:
    """The mean squared error of latents [B, C, H, W] with weights [B, 1, H, W]."""

    def loss(found: Tensor, wanted: Tensor) -> Tensor:
        return masked_mean((found - wanted).square(), weights.to(found))

    return loss
