"""The networks as models of KerasHub, and KerasHub's DeepLabV3+ head on them; nothing here imports KerasHub before it is used."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
