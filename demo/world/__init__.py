"""The demo world: procedural 128 x 128 pictures whose every attribute is known.

A picture shows one *main object* of a category (teddy, cup, ...) before a background, with an optional accessory and an
optional smaller second object beside it.  Its caption states a random part of that.  A third of the objects have looks
that no caption names; these are the prior from which personal *things* are taken (see `things`).

    colours       the named colours, free ones, and rough names for these
    shapes        the eight categories as lists of parts
    looks         how an object is coloured: named looks and free ones
    backgrounds   what lies behind the objects
    objects       drawing one object with its accessory
    scenes        a whole picture and its true mask
    captions      what is said about a scene
    things        objects with a free look of their own, to learn concepts of

Everything follows from a seed.
"""
