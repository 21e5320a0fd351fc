"""Wide, shallow residual networks in Keras (*Wider or Deeper*, arXiv:1611.10080), equal to the official definition."""

from keras_widerresnet.errors import InputError
from keras_widerresnet.networks import (
    WideResNetA,
    WideResNetA1,
    WideResNetA2,
    WideResNetB,
    WideResNetC,
    WideResNetD,
    WideResNetE,
    WideResNetF,
    WiderResNet,
    feature_extractor,
)
from keras_widerresnet.preprocessing import decode_predictions, preprocess_input
from keras_widerresnet.segmentation import WideResNetFCN
from keras_widerresnet.structures import STRUCTURES, Structure

__version__ = "0.1.0"

__all__ = [
    "STRUCTURES",
    "InputError",
    "Structure",
    "WideResNetA",
    "WideResNetA1",
    "WideResNetA2",
    "WideResNetB",
    "WideResNetC",
    "WideResNetD",
    "WideResNetE",
    "WideResNetF",
    "WideResNetFCN",
    "WiderResNet",
    "decode_predictions",
    "feature_extractor",
    "preprocess_input",
]
