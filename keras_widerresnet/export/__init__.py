"""Networks as versioned SavedModels, TFLite and ONNX files, checked against the Keras model before they are there."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
