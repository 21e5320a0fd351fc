"""Loads weights by name or file, checking every name and shape.

Nothing here builds a network; `keras_widerresnet.conversion` does, to write this package's own files.
"""

import lazy_loader

# Names are resolved lazily, so that the registry can be read before Keras is imported.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
