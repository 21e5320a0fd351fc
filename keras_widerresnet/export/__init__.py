"""Networks as versioned SavedModels, TFLite and ONNX files, checked against the Keras model before they are there."""

from keras_widerresnet.export.config import ExportConfig
from keras_widerresnet.export.run import ExportedVersion, export

__all__ = ["ExportConfig", "ExportedVersion", "export"]
