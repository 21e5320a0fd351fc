"""Measures what the paper argues: the unravelled view, effective depth, over-deepened networks (spec section 8)."""

from keras_widerresnet.analysis.chain import ResidualChain, residual_chain
from keras_widerresnet.analysis.effective_depth import EffectiveDepth, effective_depth
from keras_widerresnet.analysis.gradients import Decomposition
from keras_widerresnet.analysis.lesion import Lesion, lesion_errors
from keras_widerresnet.analysis.paths import PathLengths, gradient_per_path_length
from keras_widerresnet.analysis.unravel import unravel

__all__ = [
    "Decomposition",
    "EffectiveDepth",
    "Lesion",
    "PathLengths",
    "ResidualChain",
    "effective_depth",
    "gradient_per_path_length",
    "lesion_errors",
    "residual_chain",
    "unravel",
]
