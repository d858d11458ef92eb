"""Show Attention Maps: heat maps of the prompt's words over the pictures that were painted."""

from __future__ import annotations

from comfy_api.latest import io
from torch import Tensor

from ..perfusion_core.errors import PerfusionError
from .attention_picture import MOST_WORDS, WordMaps, attention_picture, attention_text
from .declared import as_declared
from .host.attention.chosen_words import LayerChoice, asked_for, maps_of, recorded_run, words_of_run
from .host.attention.recording import RecordedAttention
from .host.old_hosts import ADVANCED, choice, search_aliases
from .shown import theme_input, with_picture
from .types import CATEGORY, PerfusionMaps

ALL_LAYERS, FRACTIONS = "all", (8, 16, 32, 64)


class ShowAttention(io.ComfyNode):
    """See the schema's description."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PerfusionAttentionMaps",
            display_name="Show Attention Maps",
            category=CATEGORY,
            description="Draws where the model looked at each word while it painted, as heat over the pictures. Words, "
            "layers and steps can be changed without sampling again.",
            **search_aliases("attention maps", "cross attention", "heat map", "daam", "where"),
            is_output_node=True,
            inputs=[
                PerfusionMaps.Input("maps", tooltip="From Record Attention."),
                io.Image.Input("images", tooltip="The pictures of that run, all of them, as VAE Decode gives them."),
                io.String.Input(
                    "words",
                    default="",
                    tooltip="Words or phrases of the prompt, separated by commas, such as <hugsy>, on the beach. Empty "
                    "shows concepts first, then all words but little ones.",
                ),
                choice(
                    "layers",
                    options=[ALL_LAYERS, *(f"1/{fraction}" for fraction in FRACTIONS)],
                    default=ALL_LAYERS,
                    **ADVANCED,
                    tooltip="Layers by the size of their maps, as a part of the picture's. Start with all; single ones "
                    "are blurred or full of noise.",
                ),
                *(
                    io.Float.Input(
                        name,
                        default=default,
                        min=0.0,
                        max=1.0,
                        step=0.1,
                        **ADVANCED,
                        tooltip=f"Where in the sampling to {verb} looking. Start with {default:g}; {other}.",
                    )
                    for name, default, verb, other in (
                        ("start_percent", 0.0, "begin", "from the middle on the maps are sharper"),
                        ("end_percent", 1.0, "stop", "the first steps show how the layout came about"),
                    )
                ),
                *(
                    io.Float.Input(
                        name,
                        default=0.5,
                        min=0.0,
                        max=1.0,
                        step=0.01,
                        tooltip=f"The place at which the text ranks the words, 0 ({low}) to 1 ({high}); the picture "
                        "shows it as a cross.",
                    )
                    for name, low, high in (("point_x", "left", "right"), ("point_y", "top", "bottom"))
                ),
                theme_input(),
            ],
            hidden=[io.Hidden.unique_id],
            outputs=[
                io.Image.Output(display_name="picture", tooltip="The pictures, and the heat of each word over them."),
                io.String.Output(display_name="text", tooltip="The words ranked by the attention at the point."),
            ],
        )

    @classmethod
    @as_declared
    def execute(
        cls,
        maps: RecordedAttention,
        images: Tensor,
        words: str,
        layers: str,
        start_percent: float,
        end_percent: float,
        point_x: float,
        point_y: float,
        theme: str,
    ) -> io.NodeOutput:
        check_pictures(maps, images)
        chosen = LayerChoice(scales_of(layers, maps, images), start_percent, end_percent)
        asked, point = asked_for(maps, words)[:MOST_WORDS], (point_x, point_y)
        found = {word: WordMaps(word, maps_of(maps, word, chosen)) for word in [*asked, *words_of_run(maps)]}
        told = attention_text([*found.values()], point)
        drawn = attention_picture(images, [found[word] for word in asked], point, theme)
        picture, ui = with_picture(drawn, told.splitlines()[0], cls)
        return io.NodeOutput(picture, told, ui=ui)


def check_pictures(maps: RecordedAttention, images: Tensor) -> None:
    """Raise PerfusionError where these are not the pictures of the run, by their number."""
    recorded = recorded_run(maps).pictures
    if len(images) != recorded:
        raise PerfusionError(
            f"The input images expected the {recorded} pictures of the recorded run, but found {len(images)}; connect"
            " the VAE Decode behind the sampler that uses the model of Record Attention."
        )


def scales_of(layers: str, maps: RecordedAttention, images: Tensor) -> tuple[int, ...]:
    """The scales of the chosen layers, none for all.  Raises PerfusionError where the model has no such layers."""
    if layers == ALL_LAYERS:
        return ()
    record = recorded_run(maps)
    of_latent = max(1, round(images.shape[1] / record.latent_size[0]))
    there = {f"1/{scale * of_latent}": scale for scale in record.scales()}
    if layers not in there:
        raise PerfusionError(
            f"The input layers expected maps that this model has ({', '.join(there)}), but found {layers}; choose one"
            f" of these, or {ALL_LAYERS}."
        )
    return (there[layers],)
