"""Measures what the paper argues: the unravelled view, effective depth and over-deepened networks (arXiv:1611.10080)."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
