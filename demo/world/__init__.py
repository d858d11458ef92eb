"""The demo world: procedural 128 x 128 pictures whose every attribute is known.

A picture shows one *main object* of a category (teddy, cup, ...) before a background, with an optional accessory and an
optional smaller second object beside it.  Its caption states a random part of that.  A third of the objects have looks
that no caption names; these are the prior from which personal *things* are taken (see `things`).
"""
