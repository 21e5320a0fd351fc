"""Weights by name: the pretrained ones of the world, files, and every name and shape checked.

Nothing here builds a network; `keras_widerresnet.conversion` does, to write files of our own.
"""

import lazy_loader

# The registry is read before Keras is imported: names are looked up when they are first used.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
