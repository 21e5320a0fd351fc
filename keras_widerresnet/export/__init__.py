"""Export of networks as versioned SavedModels, TFLite and ONNX files, each checked against the Keras model first."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
