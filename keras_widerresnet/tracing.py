"""How TensorFlow makes graphs of this package's functions."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import tensorflow as tf

Function = TypeVar("Function", bound=Callable)


def without_autograph(function: Function) -> Function:
    """Decorates a function that builds a `tf.data` pipeline, so that what the pipeline maps is traced as it is written.

    No function of this package has Python control flow that depends on a tensor, so AutoGraph would change none of them; rewriting them
    all the same takes 1.5 s at the start of a training run. `tf.function` has `autograph=False` for this.
    """
    return tf.autograph.experimental.do_not_convert(function)
