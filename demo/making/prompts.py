"""The demo's workflows as API prompts, in plain Python: the tour queues them, the tests run them, and the templates in
workflows/ are made from them (make_templates.py).

A prompt maps a node's name to its class and its inputs; an input is a value, or [name of a node, number of its output].
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..world.things import THINGS

Prompt = dict[str, dict[str, Any]]

BIAS, TEMPERATURE = 0.85, 0.15  # the gate that is advised, as numbers, so that a template shows which knob to turn
SAMPLER = {"steps": 20, "cfg": 3.0, "sampler_name": "euler", "scheduler": "normal", "denoise": 1.0}
# What the advanced inputs of Train Perfusion Concept are set to; a test compares them with the node's own defaults.
TRAINER = {
    "seed": 0,
    "samples": 4,
    "flip": True,
    "sample_cfg": 0.0,
    "steps": 300,
    "batch_size": 8,
    "accumulation": 1,
    "value_learning_rate": 0.02,
    "word_learning_rate": 0.006,
    "form": "as Standard",
    "training_bias": 0.75,
    "training_temperature": 0.1,
    "resume": False,
    "automatic_mask": True,
    "validate_every": 25,
    "preview_every": 100,
    "gradient_checkpointing": False,
    "resolution": 0,
    "relative_value_rate": 0.0,
    "relative_word_rate": 0.0,
    "keep_every": 50,
    "pooled_lock": False,
    "difference_decay": 0.0,
    "difference_cap": 0.0,
    "attention_weight": 0.0,
    "relative_offset_rate": 0.0,
}
NO_OTHER_AXIS = {"strengths": "", "temperatures": "", "locks": "", "seeds": ""}
FIRST_CONCEPT, SECOND_CONCEPT = "demo_hugsy.safetensors", "demo_sippy.safetensors"
THIRD_CONCEPT = "demo_bruno.safetensors"
STYLE_CONCEPT, STYLE_BIAS = "demo_inky.safetensors", 0.6
LORA = "demo_evening.safetensors"


def first_picture_prompt(
    text: str = "a photo of a <hugsy> on the beach",
    seed: int = 1,
    bias: float = BIAS,
    concept_file: str = FIRST_CONCEPT,
    batch: int = 4,
) -> Prompt:
    """Template "First picture": a ready concept in a new scene."""
    return sample_prompt(text, [(concept_file, bias)], seed, batch)


def two_concepts_prompt(
    text: str = "a <hugsy> beside a <sippy> on the grass",
    seed: int = 1,
    bias: float = BIAS,
    concept_files: Sequence[str] = (FIRST_CONCEPT, SECOND_CONCEPT),
    batch: int = 4,
) -> Prompt:
    """Template "Two concepts in one picture": concepts that were trained apart, in one gate."""
    return sample_prompt(text, [(file, bias) for file in concept_files], seed, batch)


def sweep_prompt(
    text: str = "a photo of a <hugsy> with a hat on the grass",
    seed: int = 5,
    biases: str = "0.5, 0.7, 0.85, 1, 1.2",
    concept_file: str = FIRST_CONCEPT,
    batch: int = 2,
) -> Prompt:
    """Template "Sweep the bias": the same noise painted with one bias after the other, in one labelled picture."""
    prompt = first_picture_prompt(text, seed, BIAS, concept_file, batch)
    prompt["sweep"] = node("PerfusionGateSweep", model=["gate", 0], biases=biases, word="", **NO_OTHER_AXIS)
    prompt["sampler"]["inputs"]["model"] = ["sweep", 0]
    prompt["grid"] = node("PerfusionLabelGrid", images=["decode", 0], labels=["sweep", 1], columns=0, theme="light")
    prompt["picture"]["inputs"]["images"] = ["grid", 0]
    return prompt


def lock_prompt(
    text: str = "a photo of a <hugsy> with a hat on the beach",
    seed: int = 1,
    biases: str = "0.7, 0.85",
    locks: str = "0, 0.5, 1",
    concept_file: str = FIRST_CONCEPT,
    batch: int = 1,
) -> Prompt:
    """Template "Choose the lock": a table of locks and biases, which is how the two are chosen together."""
    prompt = sweep_prompt(text, seed, biases, concept_file, batch)
    prompt["sweep"]["inputs"]["locks"] = locks
    prompt["grid"]["inputs"]["sweep"] = ["sweep", 5]
    return prompt


def lora_prompt(
    text: str = "a photo of a <hugsy> with a hat on the beach",
    seed: int = 1,
    strength: float = 0.7,
    concept_file: str = FIRST_CONCEPT,
    lora_file: str = LORA,
    batch: int = 4,
) -> Prompt:
    """Template "With a LoRA": a LoRA before the gate."""
    prompt = first_picture_prompt(text, seed, BIAS, concept_file, batch)
    prompt["lora"] = node("LoraLoaderModelOnly", model=["demo", 0], lora_name=lora_file, strength_model=strength)
    prompt["gate"]["inputs"]["model"] = ["lora", 0]
    return prompt


def inpaint_prompt(
    text: str = "a photo of a <hugsy>",
    thing: str = "sippy",
    seed: int = 1,
    grow: int = 20,
    concept_file: str = FIRST_CONCEPT,
    batch: int = 4,
) -> Prompt:
    """Template "Inpaint a concept": the concept in the place that a mask shows, all else of the pictures as it was."""
    prompt = first_picture_prompt(text, seed, BIAS, concept_file, batch)
    prompt["pictures"] = node("PerfusionDemoPictures", thing=thing, count=batch, seed=0)
    prompt["grown"] = node("GrowMask", mask=["pictures", 1], expand=grow, tapered_corners=True)
    prompt["encode"] = node("VAEEncode", pixels=["pictures", 0], vae=["demo", 2])
    prompt["latent"] = node("SetLatentNoiseMask", samples=["encode", 0], mask=["grown", 0])
    return prompt


def style_prompt(
    text: str = "a <inky> of a house on the beach",
    seed: int = 1,
    bias: float = STYLE_BIAS,
    concept_file: str = STYLE_CONCEPT,
    batch: int = 4,
) -> Prompt:
    """Template "Paint in a style": a concept that is a manner, with a gate that is open for other words too."""
    return first_picture_prompt(text, seed, bias, concept_file, batch)


def blend_prompt(
    text: str = "a photo of a <hugsy-bruno> on the beach",
    share: float = 0.5,
    seed: int = 1,
    concept_files: Sequence[str] = (FIRST_CONCEPT, THIRD_CONCEPT),
    batch: int = 4,
) -> Prompt:
    """Template "Blend two concepts": a teddy between two teddies."""
    prompt = sample_prompt(text, [(file, BIAS) for file in concept_files], seed, batch)
    prompt["blend"] = node(
        "PerfusionBlendConcepts", concept_a=["concept0", 0], concept_b=["concept1", 0], share=share, word=""
    )
    prompt["gate"] = _gate([["blend", 0]])
    return prompt


def edit_prompt(
    text: str = "a photo of a teddy with a hat on the beach",
    edit: str = "teddy -> <hugsy>",
    other_edit: str = "teddy -> cup",
    seed: int = 3,
    concept_file: str = FIRST_CONCEPT,
    batch: int = 2,
) -> Prompt:
    """Template "Edit a picture": the same picture with a concept's word, and with another thing."""
    prompt = sample_prompt("", [(concept_file, BIAS)], seed, batch)
    del prompt["positive"]  # the edit node encodes its texts
    prompt["described"] = node(
        "PerfusionDescribeEdit",
        text=other_edit,
        **{"cross_end": 0.4, "self_end": 0.4, "words": "", "changes": "at the words", "blend_words": ""},
        **{"cross_start": 0.0, "self_start": 0.0, "blend_start": 0.2, "blend_end": 1.0},
        **{"threshold": 0.25, "softness": 0.4},
    )
    prompt["edit"] = node(
        "PerfusionEditPrompt",
        model=["gate", 0],
        clip=["gate", 1],
        latent=["latent", 0],
        text=text,
        edit=edit,
        **{"edits.edit0": ["described", 0]},
        **{"real_picture": False, "real_strength": 1.0, "real_end": 1.0},
    )
    prompt["sampler"]["inputs"] |= {"model": ["edit", 0], "positive": ["edit", 1], "latent_image": ["edit", 2]}
    prompt["mask"] = node("PerfusionEditMask", latent=["sampler", 0])
    prompt["masks"] = node("MaskPreview", mask=["mask", 0])
    return prompt


def inspect_prompt(
    text: str = "a <hugsy> beside a <sippy> and a red cup",
    concept_files: Sequence[str] = (FIRST_CONCEPT, SECOND_CONCEPT),
) -> Prompt:
    """Template "Inspect the gate": which words of a prompt open which gate, and what a concept's file says."""
    loaded = sample_prompt("", [(file, BIAS) for file in concept_files])
    prompt = {name: node for name, node in loaded.items() if name == "demo" or name.startswith("concept")}
    links = {f"concepts.concept{number}": [f"concept{number}", 0] for number in range(len(concept_files))}
    prompt["inspect"] = node("PerfusionInspectGate", clip=["demo", 1], **links, prompt=text, bias=-2.0, theme="dark")
    prompt["info"] = node("PerfusionConceptInfo", concept=["concept0", 0], theme="dark")
    return prompt


def maps_prompt(
    text: str = "a <hugsy> with a hat beside a red cup on the grass",
    words: str = "",
    seed: int = 1,
    concept_file: str = FIRST_CONCEPT,
    batch: int = 2,
) -> Prompt:
    """Template "Attention maps": where each word of a prompt was looked for in the pictures."""
    prompt = sample_prompt(text, [(concept_file, BIAS)], seed, batch)
    prompt["record"] = node("PerfusionRecordAttention", model=["gate", 0], clip=["gate", 1])
    prompt["sampler"]["inputs"]["model"] = ["record", 0]
    for name in ("positive", "negative"):
        prompt[name]["inputs"]["clip"] = ["record", 2]
    prompt["maps"] = node(
        "PerfusionAttentionMaps",
        maps=["record", 1],
        images=["decode", 0],
        words=words,
        layers="all",
        **{"start_percent": 0.0, "end_percent": 1.0, "point_x": 0.5, "point_y": 0.5},
        theme="dark",
    )
    return prompt


def sample_prompt(text: str, concepts: Sequence[tuple[str, float]], seed: int = 1, batch: int = 4) -> Prompt:
    """Pictures of `text` with any number of concepts, each a file and the bias of its gate; none is the model alone."""
    prompt: Prompt = {"demo": node("PerfusionDemoModel")}
    for number, (file, bias) in enumerate(concepts):
        prompt[f"concept{number}"] = node(
            "PerfusionLoadConcept",
            concept_file=file,
            bias=bias,
            temperature=TEMPERATURE,
            strength=1.0,
            start_percent=0.0,
            end_percent=1.0,
            word="",
            lock=-1.0,
        )
    if concepts:
        prompt["gate"] = _gate([[f"concept{number}", 0] for number in range(len(concepts))])
    gated = "gate" if concepts else "demo"
    return {**prompt, **_pictures([gated, 0], [gated, 1], text, seed, batch)}


def train_prompt(
    thing: str = "hugsy",
    text: str = "",
    file_name: str = "",
    preset: str = "Standard",
    pictures: int = 5,
    samples_seed: int = 1,
    batch: int = 4,
    save_again_as: str = "",
    **settings: object,
) -> Prompt:
    """Template "Train a concept": the word <thing> learned from pictures of a demo thing, with the trainer's report.

    text: what to paint with the new concept at once ("" paints nothing).  save_again_as: also save a copy under this
    name, with the first of those pictures in the file.
    settings: inputs of the trainer other than its defaults.
    """
    prompt: Prompt = {
        "demo": node("PerfusionDemoModel"),
        "pictures": node("PerfusionDemoPictures", thing=thing, count=pictures, seed=0),
        "statistics": node("PerfusionTextStatistics", clip=["demo", 1], captions_file="", caption_count=2000),
        "train": node(
            "PerfusionTrainConcept",
            model=["demo", 0],
            clip=["demo", 1],
            vae=["demo", 2],
            images=["pictures", 0],
            masks=["pictures", 1],
            statistics=["statistics", 0],
            word=f"<{thing}>",
            superclass=["pictures", 2],
            preset=preset,
            file_name=file_name,
            **{**TRAINER, **settings},
        ),
        "report": node("PreviewImage", images=["train", 2]),
        "loss": node("LossGraphNode", loss=["train", 1], filename_prefix="loss_graph"),
    }
    if text:
        prompt["gate"] = _gate([["train", 0]])
        prompt |= _pictures(["gate", 0], ["gate", 1], text, samples_seed, batch)
    if text and save_again_as:
        prompt["save again"] = node(
            "PerfusionSaveConcept", concept=["train", 0], name=save_again_as, picture=["decode", 0]
        )
    return prompt


def compare_prompt(
    thing: str = "bruno",
    text: str = "a photo of a <bruno> on the beach",
    preset: str = "Quick",
    seed: int = 1,
    batch: int = 2,
    save_as: str = "",
    **settings: object,
) -> Prompt:
    """Template "Compare steps": a training, and the same noise painted with the concept of each of its kept steps.

    save_as: also save these concepts under this name.  settings: inputs of the trainer other than its defaults."""
    prompt = train_prompt(thing, text, preset=preset, samples_seed=seed, batch=batch, **settings)
    del prompt["statistics"], prompt["train"]["inputs"]["statistics"], prompt["loss"]
    prompt["kept"] = node("PerfusionKeptSteps", training="(last training)", steps="", path=["train", 3])
    prompt["gate"] = _gate([["kept", 0]])
    prompt["grid"] = node("PerfusionLabelGrid", images=["decode", 0], labels=["kept", 1], columns=0, theme="light")
    prompt["picture"]["inputs"]["images"] = ["grid", 0]
    if save_as:
        prompt["save"] = node("PerfusionSaveConcept", concept=["kept", 0], name=save_as)
    return prompt


def own_photos_prompt(thing: str = "bruno", preset: str = "Quick", **settings: object) -> Prompt:
    """Template "Train on your own photos": a training whose model and pictures are changed for one's own, with what
    loads those beside it.

    settings: inputs of the trainer other than its defaults."""
    prompt = train_prompt(thing, preset=preset, **settings)
    prompt["train"]["inputs"]["superclass"] = THINGS[thing].category
    del prompt["loss"]
    prompt["checkpoint"] = node("CheckpointLoaderSimple")
    prompt["own pictures"] = node("PerfusionLoadPictures", folder="(input folder)", names="")
    return prompt


def without(prompt: Prompt, *names: str) -> Prompt:
    """The prompt without the nodes of these names, and without the links that come from them."""
    return {
        name: {
            **node,
            "inputs": {
                key: value
                for key, value in node["inputs"].items()
                if not (isinstance(value, list) and value[0] in names)
            },
        }
        for name, node in prompt.items()
        if name not in names
    }


def demo_pictures_prompt(thing: str = "hugsy", count: int = 5, seed: int = 0) -> Prompt:
    """Only the pictures that a demo thing is trained on."""
    return {
        "pictures": node("PerfusionDemoPictures", thing=thing, count=count, seed=seed),
        "shown": node("PreviewImage", images=["pictures", 0]),
    }


def node(class_type: str, **inputs: object) -> dict[str, Any]:
    return {"class_type": class_type, "inputs": inputs}


def _gate(concepts: Sequence[list[Any]]) -> dict[str, Any]:
    # Inputs that grow are keyed by the name of their group and their own.
    grown = {f"concepts.concept{number}": link for number, link in enumerate(concepts)}
    return node("PerfusionConceptGate", model=["demo", 0], clip=["demo", 1], **grown, key_lock="local", exact_gate=True)


def _pictures(model: list[Any], clip: list[Any], text: str, seed: int, batch: int) -> Prompt:
    """The stock nodes from a MODEL and a CLIP to saved pictures."""
    return {
        "positive": node("CLIPTextEncode", clip=clip, text=text),
        "negative": node("CLIPTextEncode", clip=clip, text=""),
        "latent": node("EmptyLatentImage", width=128, height=128, batch_size=batch),
        "sampler": node(
            "KSampler",
            model=model,
            positive=["positive", 0],
            negative=["negative", 0],
            latent_image=["latent", 0],
            seed=seed,
            **SAMPLER,
        ),
        "decode": node("VAEDecode", samples=["sampler", 0], vae=["demo", 2]),
        "picture": node("SaveImage", images=["decode", 0], filename_prefix="perfusion"),
    }
