"""Limits on the size of images."""

from __future__ import annotations

import dataclasses

from keras_widerresnet.options import DATA, option

MAX_PIXELS = 89_478_485  # PIL's limit: a quarter of a gigabyte as RGB
MAX_DENSE_PIXELS = 1 << 23  # for networks that return scores for every pixel; a 4K frame fits
MAX_ASPECT = 200  # longer side / shorter side; our choice


@dataclasses.dataclass(frozen=True, kw_only=True)
class ImageOptions:
    """Limits on the images that are read."""

    max_pixels: int = option(MAX_PIXELS, help="maximum number of pixels of an image, by its header (before decoding)", group=DATA, least=1)
