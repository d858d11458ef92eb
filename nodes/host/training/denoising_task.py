"""The host's model as the training loop wants it: prompts in, denoising error out, differentiable in between."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import cached_property
from typing import Any

import comfy.model_management
import torch
from comfy.model_patcher import ModelPatcher
from comfy.sd import CLIP
from torch import Tensor
from torch.nn import Module

from ....perfusion_core.attention_aim import AttentionAim
from ....perfusion_core.edit import EditedEncoding, add_value_targets
from ....perfusion_core.errors import PerfusionError
from ....perfusion_core.out_of_memory import memory_for
from ....perfusion_core.picture_fitting import Fit, whole_picture
from ....perfusion_core.training_batch import Batch, masked_mean
from ....perfusion_core.training_pictures import PerPicture, per_picture
from ..gate.cross_attention import cross_attention_layers, refined_from, values_of
from ..gate.projection_swap import Replacement, swapped_forwards
from ..gate.refined_text import prompts_at_layers, text_given
from ..text.encoders import embedding_key, positions_at_layers, text_encoders
from ..text.words import ConceptWord, with_words
from .autograd import (
    differentiable_attention,
    differentiable_text_encoder,
    gradient_scale,
    make_differentiable,
    ordinary,
    recast_layers,
    scaled_gradient,
)
from .captured_attention import AimedAttention
from .fused_operations import differentiable_operations
from .gradient_checkpointing import checkpointed_forwards
from .inpainting import Holes
from .pooled import encode_with_each_pooled
from .size_hints import SizeHints, size_hints


class HostDenoisingTask:
    """A MODEL and a CLIP of the host under training; a `DenoisingTask` for `ConceptTrainer`, and a context manager.

    latents: of the pictures, [C, H, W] each, as the VAE gives them; the attribute holds them as the model wants them.
    masks: [1, H, W] each in 0..1 at the latents' size, or None; may be set later.  word: such as "<hugsy>".
    superclass_vectors: by embedding key, [m, width].  fits: how the pictures came to their sizes, which SDXL is told;
    None where they were taken as they are.  mirrored_latents: of the mirrored pictures, for batches that have some.
    superclass: the word itself, for models that read the prompt with a second tokenizer (Anima).
    gradient_checkpointing: whether blocks run again in the backward pass, for less memory; may be set at any time.
    holes: what an inpainting model is shown; None hides the whole picture from it.  May be set at any time too.
    pooled_lock: whether the model is told the pooled vector of a prompt with the superclass; may be set at any time.
    Enter it, and use it, with inference_mode off; the model is loaded and made differentiable on entering.
    """

    def __init__(
        self,
        model: ModelPatcher,
        clip: CLIP,
        latents: PerPicture,
        masks: PerPicture | None,
        word: str,
        superclass_vectors: Mapping[str, Tensor],
        fits: Sequence[Fit] | None = None,
        mirrored_latents: PerPicture | None = None,
        superclass: str = "",
    ) -> None:
        self.model, self.clip, self.word, self.superclass = model, clip, word, superclass
        self.superclass_vectors = superclass_vectors
        self.device = model.load_device
        self.picture_count = len(latents)
        self.latents = per_picture([self._as_the_model_wants(latent) for latent in latents])
        self.mirrored_latents = None
        if mirrored_latents is not None:
            self.mirrored_latents = per_picture([self._as_the_model_wants(latent) for latent in mirrored_latents])
        self.masks = None if masks is None else per_picture([ordinary(m).float().to(self.device) for m in masks])
        shapes = [latent.shape for latent in self.latents]
        self.bucket_of: Sequence[int] = [shapes.index(shape) for shape in shapes]
        self._fits = fits
        self._open = ExitStack()
        self._token_lists: dict[str, dict[str, list]] = {}
        self._pooled: Tensor | None = None  # of the templates that were encoded last, [T, p]
        self._locked_pooled: dict[str, Tensor] = {}
        self.gradient_checkpointing = self.pooled_lock = False
        self.memory_of_a_step = 0  # bytes beyond the models, once they are known
        self.holes: Holes | None = None
        self._gradient_scale, self._gradient_halvings = 1.0, 0

    def __enter__(self) -> HostDenoisingTask:
        self._base = self.model.model
        self.load()
        self._sampling: Any = self.model.get_model_object("model_sampling")
        encoders = text_encoders(self.clip)
        self._refined_from = refined_from(self._base.diffusion_model)
        encoding_width = sum(encoder.width for encoder in encoders.values()) if self._refined_from is None else None
        self.layers = cross_attention_layers(self._base.diffusion_model, encoding_width)
        self._open.enter_context(swapped_forwards(recast_layers(self._base.diffusion_model)))
        self._open.callback(self.clip.cond_stage_model.reset_clip_options)
        for encoder in encoders.values():
            self._open.enter_context(differentiable_text_encoder(encoder.model))
            self._open.enter_context(swapped_forwards(recast_layers(encoder.model)))
        return self

    def _as_the_model_wants(self, latent: Tensor) -> Tensor:
        if latent.dim() <= self.model.model.latent_format.latent_dimensions:
            latent = latent[:, None]  # one frame
        return ordinary(self.model.model.process_latent_in(latent[None])[0]).float().to(self.device)

    def load(self) -> None:
        """Make the models ready to train with: at the start, and after the host has sampled with them, which may have
        moved them to other memory, made inference tensors of them, and set the text encoder's options."""
        largest = max((latent.shape for latent in self.latents), key=lambda shape: shape.numel())
        memory = max(self.model.memory_required([2 * self.picture_count, *largest]), self.memory_of_a_step)
        # Whole models under --lowvram too, as for the host's Train LoRA node unless its offloading is on: streaming
        # would bring every weight in twice for each forward pass.
        # Without gradients: older hosts, such as 0.20.1, patch fp8 weights by operations that have none.
        with torch.no_grad(), memory_for("the models were loaded for the training"):
            comfy.model_management.load_models_gpu(
                [self.model, self.clip.patcher], memory_required=memory, force_full_load=True
            )
        for module in (self._base, self.clip.cond_stage_model):
            make_differentiable(module)
            module.requires_grad_(False)
        self.clip.cond_stage_model.reset_clip_options()
        if self.clip.layer_idx is not None:
            self.clip.cond_stage_model.set_clip_options({"layer": self.clip.layer_idx})
        self.clip.cond_stage_model.set_clip_options({"execution_device": self.clip.patcher.load_device})

    def __exit__(self, *exception: object) -> None:
        self._open.close()

    def encode(self, word_vectors: Mapping[str, Tensor], templates: Sequence[str]) -> tuple[Tensor, Tensor]:
        """See `DenoisingTask.encode`.  The templates go through the encoder as if they were chunks of one long prompt,
        which the host encodes in one batch, each by itself."""
        lists = [self._tokens(template, word_vectors) for template in templates]
        with differentiable_operations(self._base.diffusion_model):
            if self._refined_from is None:
                encoded, pooled = self._encode(lists)
                encodings = encoded.reshape(len(templates), -1, encoded.shape[-1]).to(self.device)
            else:
                encodings, pooled = prompts_at_layers(self._base, self.clip, lists, self.device), None
        self._pooled = self._pooled_of_the_superclass(templates) if self.pooled_lock and pooled is not None else pooled
        positions = torch.zeros(encodings.shape[:2], dtype=torch.bool)
        for row, tokens in zip(positions, lists, strict=True):
            row[positions_at_layers(tokens, self.word)] = True
        return encodings, positions.to(self.device)

    def _encode(self, lists: Sequence[Mapping[str, list]]) -> tuple[Tensor, Tensor | None]:
        """The encodings of these token lists, one after the other, and their pooled vectors, [T, p]."""
        joined = {name: [chunk for tokens in lists for chunk in tokens[name]] for name in lists[0]}
        model = self.clip.cond_stage_model
        encoders = [encoder.model for encoder in text_encoders(self.clip).values()]
        return encode_with_each_pooled(encoders, lambda: model.encode_token_weights(joined), len(lists))

    def _pooled_of_the_superclass(self, templates: Sequence[str]) -> Tensor:
        """The pooled vectors of the templates with the superclass in the word's place, which never change, [T, p]."""
        missing = [template for template in dict.fromkeys(templates) if template not in self._locked_pooled]
        if missing:
            with torch.no_grad():
                pooled = self._encode([self._tokens(template, self.superclass_vectors) for template in missing])[1]
            assert pooled is not None
            self._locked_pooled.update(zip(missing, pooled, strict=True))
        return torch.stack([self._locked_pooled[template] for template in templates])

    @cached_property
    def _taught_clip(self) -> CLIP:
        """The CLIP that knows the word."""
        vectors = self.superclass_vectors
        word = ConceptWord(self.word, vectors, vectors, superclass=self.superclass)
        return with_words(self.clip, [word])

    def _tokens(self, template: str, word_vectors: Mapping[str, Tensor]) -> dict[str, list]:
        """The template's token lists with the word's vectors of this step.  The host tokenizes each template once;
        later steps put their vectors in the places of the first ones."""
        if template not in self._token_lists:
            self._token_lists[template] = self._taught_clip.tokenize(template.format(self.word))
        result = {}
        for name, chunks in self._token_lists[template].items():
            # By name: SDXL lists its encoders in another order, and some list one that they do not have.
            key = embedding_key(name, word_vectors)
            if key is None:
                result[name] = chunks
                continue
            vectors = word_vectors[key]
            if len(chunks) > 1:
                raise PerfusionError(
                    f"The superclass has {len(vectors)} tokens, too many for one prompt, {template!r}; use a shorter"
                    " word, or a shorter caption."
                )
            places = [entry[0] for entry in chunks[0] if torch.is_tensor(entry[0])]
            # A caption may hold the word several times; each time its vectors stand there in their order.
            repeated = [vector for _ in range(len(places) // len(vectors)) for vector in vectors]
            marked = iter([_marked_like(place, vector) for place, vector in zip(places, repeated, strict=True)])
            result[name] = [[(next(marked), *entry[1:]) if torch.is_tensor(entry[0]) else entry for entry in chunks[0]]]
        return result

    @property
    def _compute_dtype(self) -> torch.dtype:
        return self._base.manual_cast_dtype or self._base.get_dtype()  # get_dtype_inference is newer than 0.11

    def value_outputs(self, encoding: Tensor) -> dict[str, Tensor]:
        """See `DenoisingTask.value_outputs`."""
        encoding = encoding.to(self._compute_dtype)
        return {name: values_of(layer, encoding).float() for name, layer in self.layers.items()}

    def with_noise(self, batch: Batch, generator: torch.Generator) -> Batch:
        """See `DenoisingTask.with_noise`."""
        if batch.noise is not None:
            return batch
        size, levels, last = len(batch.pictures), batch.levels, len(self._sampling.sigmas) - 1
        if levels is None:
            levels = torch.randint(last + 1, (size,), generator=generator) / last
        shape = self.latents[int(batch.pictures[0])].shape
        return replace(batch, levels=levels, noise=torch.randn((size, *shape), generator=generator))

    def loss(
        self, batch: Batch, edited: EditedEncoding, value_targets: Mapping[str, Tensor], generator: torch.Generator,
        aim: AttentionAim | None = None,
    ) -> Tensor:  # fmt: skip
        """The model's own training objective, whatever it predicts, and the loss of an aim beside it.

        Every `calculate_denoised` of the host is affine in the model's output, D(out) = D(0) + B out; so dividing the
        error of the denoised latent by B gives the error of the output itself: the noise for an eps model, v for a v
        model, and so on.
        """
        size = len(batch.pictures)
        clean = self._oriented(self.latents, self.mirrored_latents, batch)
        masks = None
        if self.masks is not None:
            masks = self._oriented(self.masks, [mask.flip(-1) for mask in self.masks], batch)
        batch = self.with_noise(batch, generator)
        assert batch.levels is not None and batch.noise is not None
        sigma, noise = self.sigmas_at(batch.levels), batch.noise.to(self.device)
        noisy = self.noised(clean, noise, sigma)
        if batch.noise_alone is not None:
            alone = batch.noise_alone.to(self.device)
            sigma = torch.where(alone, self.sigmas_at(torch.ones(size)), sigma)
            noisy = torch.where(_each(alone, noise), self._noise_of_a_sampler(noise, sigma), noisy)
        pooled = None if self._pooled is None else self._pooled[batch.templates.unique(return_inverse=True)[1]]
        everywhere = clean.new_ones(size, 1, *clean.shape[-2:])  # where masks are not found yet: it asks for nothing
        aimed = None if aim is None else AimedAttention(aim, everywhere if masks is None else masks)
        beside = self._size_hints(batch), pooled, self._shown(batch), aimed
        denoised = self.denoise(noisy, sigma, edited, value_targets, *beside)
        at_nought = self._sampling.calculate_denoised(sigma, torch.zeros_like(noisy), noisy)
        at_one = self._sampling.calculate_denoised(sigma, torch.ones_like(noisy), noisy)
        errors = ((denoised - clean) / (at_one - at_nought)).square()
        error = masked_mean(errors.flatten(2, -2), masks)  # of one frame
        return error if aimed is None else error + aimed.loss()

    def sigmas_at(self, levels: Tensor) -> Tensor:
        """Noise levels [B] of the host's schedule at these shares of it, 0 (clean) to 1 (noise)."""
        last = len(self._sampling.sigmas) - 1
        return self._sigmas((levels * last).round().long().clamp(0, last))

    def _sigmas(self, indices: Tensor) -> Tensor:
        sigmas = self._sampling.sigmas
        return ordinary(sigmas[indices.to(sigmas.device)]).to(self.device).float()

    def noised(self, clean: Tensor, noise: Tensor, sigma: Tensor) -> Tensor:
        """Latents [B, C, h, w] with noise of the levels sigma [B]; with one frame, [B, C, 1, h, w], as all latents of
        models of video."""
        return self._sampling.noise_scaling(_each(sigma, noise), noise, clean, False)

    def _noise_of_a_sampler(self, noise: Tensor, sigma: Tensor) -> Tensor:
        """What a sampler starts from at the levels sigma [B]: noise [B, C, h, w] in the host's scale, no picture."""
        return self._sampling.noise_scaling(_each(sigma, noise), noise, torch.zeros_like(noise), True)

    @staticmethod
    def _oriented(plain: PerPicture, mirrored: PerPicture | None, batch: Batch) -> Tensor:
        """What belongs to the pictures of the batch, [B, ...], out of that for each orientation."""
        samples = list(zip(batch.pictures.tolist(), batch.mirrored.tolist(), strict=True))
        if mirrored is None and batch.mirrored.any():
            raise ValueError("a batch with mirrored pictures needs their latents")
        return torch.stack(
            [mirrored[one] if turned and mirrored is not None else plain[one] for one, turned in samples]
        )

    def _size_hints(self, batch: Batch) -> list[SizeHints] | None:
        """What SDXL is told of the size of each sample's picture; None where pictures were taken as they are."""
        if self._fits is None:
            return None
        samples = zip(batch.pictures.tolist(), batch.mirrored.tolist(), strict=True)
        return [size_hints(self._fits[picture], mirrored) for picture, mirrored in samples]

    def _shown(self, batch: Batch) -> dict[str, Tensor]:
        """What each sample's inpainting model sees of its picture, by the host's names; nothing for other models."""
        if self.holes is None:
            return {}
        holes = self.holes
        return {
            "concat_mask": self._oriented(holes.masks, [mask.flip(-1) for mask in holes.masks], batch),
            "concat_latent_image": ordinary(self._oriented(holes.latents, holes.mirrored_latents, batch)),
        }

    def denoise(
        self,
        noisy: Tensor,
        sigma: Tensor,
        edited: EditedEncoding,
        value_targets: Mapping[str, Tensor],
        hints: Sequence[SizeHints] | None = None,
        pooled: Tensor | None = None,
        shown: Mapping[str, Tensor] | None = None,
        aimed: AimedAttention | None = None,
    ) -> Tensor:
        """The model's clean latents [B, C, h, w] for noisy ones of the levels sigma [B], under the edit; differentiable
        in the edit and the targets [d_out] of the layers.  hints, pooled, shown: see `predict`.  aimed: looks on."""
        dtype = self._compute_dtype
        scale = self._gradient_scale = max(1.0, gradient_scale(dtype, noisy.numel()) / 2**self._gradient_halvings)
        # Inside the model gradients are scaled up, and where they leave it, in float32, down again.
        key_context, value_context, value_gates = (
            scaled_gradient(tensor, 1 / scale)
            for tensor in (edited.key_context, edited.value_context, edited.value_gates)
        )
        key_context, value_context = key_context.to(dtype), value_context.to(dtype)
        replacements: list[tuple[Module, Callable[..., Any]]] = []
        targets = {name: scaled_gradient(target, 1 / scale) for name, target in value_targets.items()}
        for name, layer in self.layers.items():
            replacements += [
                (layer.to_k, lambda _context, keys=layer.to_k.forward: keys(key_context)),
                (
                    layer.to_v,
                    lambda _context, values=layer.to_v.forward, target=targets[name]: add_value_targets(
                        values(value_context), value_gates, target[None]
                    ),
                ),
            ]
        if aimed is not None:
            with swapped_forwards(replacements):
                watching: Any = aimed.watch(self.layers, scale)  # halves of fused projections are modules here
                replacements += watching
        if self.gradient_checkpointing:
            replacements += checkpointed_forwards(self._base.diffusion_model, replacements)
        with swapped_forwards(replacements):
            # The contexts replace whatever arrives: the encoding that travels through the model has to fit in shape.
            return scaled_gradient(self.predict(noisy, sigma, edited.value_context, hints, pooled, shown), scale)

    def lower_gradient_scale(self) -> bool:
        """See `DenoisingTask.lower_gradient_scale`."""
        if self._gradient_scale <= 1:
            return False
        self._gradient_halvings += 1
        return True

    def predict(
        self,
        noisy: Tensor,
        sigma: Tensor,
        encoding: Tensor,
        hints: Sequence[SizeHints] | None = None,
        pooled: Tensor | None = None,
        shown: Mapping[str, Tensor] | None = None,
    ) -> Tensor:
        """The model's denoised latents [B, C, h, w] for noisy ones, noise levels [B] and encodings as the layers see
        them, [B, N, d].

        hints: by sample, what SDXL is told of its picture's size; None tells that of the latents.  pooled: by sample,
        what it is told of the prompt, [B, p]; None tells all samples that of the first template that was encoded.
        shown: what an inpainting model sees of the pictures, by the host's names; None hides them."""
        pooled = self._pooled[:1] if pooled is None and self._pooled is not None else pooled
        whole = size_hints(whole_picture(noisy.shape[-1] * 8, noisy.shape[-2] * 8))
        hints = [whole] if hints is None else hints
        replaced: list[Replacement] = []
        if self._refined_from is not None:  # what goes through the model is nothing, and the layers get the encoding
            replaced = text_given(self.layers, encoding.to(self._compute_dtype))
            encoding = encoding.new_zeros(len(noisy), 1, self._refined_from)

        def conditions(one: SizeHints) -> dict[str, Tensor]:
            # The host gives an empty latent where nothing is painted into; models without a mask look at its shape.
            given = {"noise": noisy, "latent_image": torch.zeros_like(noisy), **(shown or {}), **one}
            conds = self._base.extra_conds(cross_attn=encoding, pooled_output=pooled, device=self.device, **given)
            return {name: cond.process_cond(batch_size=len(noisy), area=None).cond for name, cond in conds.items()}

        arguments = conditions(hints[0])
        if "y" in arguments and any(one != hints[0] for one in hints):
            own = {tuple(one.items()): conditions(one)["y"] for one in hints}
            arguments["y"] = torch.stack([own[tuple(one.items())][sample] for sample, one in enumerate(hints)])
        options: dict[str, Any] = {
            "cond_or_uncond": [0],
            "sigmas": sigma,
            "optimized_attention_override": differentiable_attention,
        }
        with swapped_forwards(replaced), differentiable_operations(self._base.diffusion_model):
            return self._base.apply_model(noisy, sigma, transformer_options=options, **arguments)


def _each(values: Tensor, latents: Tensor) -> Tensor:
    """Values [B] in the shape in which each belongs to one of the latents [B, ...]."""
    return values.reshape(-1, *[1] * (latents.dim() - 1))


def _marked_like(old: Tensor, new: Tensor) -> Tensor:
    """`new` with the marks that `text.words` puts on a token list's vectors."""
    vars(new).update(vars(old))
    return new
