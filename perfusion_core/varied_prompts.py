"""Prompts in which a word stands in many ways: how similar it is to its concept in all of them, and so which bias.

None of them is a caption; they are plain, so that every text encoder knows their words.
"""

from __future__ import annotations

VARIED_PROMPTS = (
    # The word first.
    "{}",
    "{} on the beach",
    "{} in the snow at night",
    "{}, a good photo",
    "{} with a hat, in a grey studio",
    "{} beside a red ball on the grass",
    "{}, snow, night",
    # Behind a few words.
    "a {}",
    "the {} in a pink room",
    "a photo of a {}",
    "a photo of a {} on the beach",
    "a good photo of the {} at night",
    "image of a {}, in a plain studio",
    "a picture of a small {} next to a tree",
    "A photograph of {} in the snow",
    "a red {} with a scarf",
    "photos of the big {} by a house",
    # Between commas.
    "night, snow, {}, tree",
    "a good photo, {}, beach",
    "photo, {}, a red ball, a blue cup, grass",
    "beach, {}",
    # Behind about twenty words.
    "a good photo of a big red ball and a small blue cup next to a green tree on the beach with a {}",
    "a picture of a white house by a tree in the snow at night, next to a yellow car, with the {}",
    "a photo of the beach at night with two red cups, a blue ball, a green car and a big {}",
    "on the grass, next to a small tree, beside a white house with a red car, at night, a photo of {}",
    "a dark room with a red ball on the right, a blue cup on the left and in the room a {}, photo",
    # Twice.
    "a {0} beside a {0}",
    "{0} and {0} in the snow",
    "a photo of a {0} with a hat, the {0} on the grass",
    "a small {0} on the left, a big {0} on the right, in a studio",
)
