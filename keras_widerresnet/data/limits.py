"""How large an image may be."""

from __future__ import annotations

import dataclasses

from keras_widerresnet.options import DATA, option

MAX_PIXELS = 89_478_485  # PIL's: a quarter of a gigabyte of RGB
MAX_DENSE_PIXELS = 1 << 23  # where a network gives scores for every pixel; a 4K frame fits
MAX_ASPECT = 200  # longer side over shorter side; ours


@dataclasses.dataclass(frozen=True, kw_only=True)
class ImageOptions:
    """Which images are read."""

    max_pixels: int = option(MAX_PIXELS, help="most pixels of an image, as its header tells before it is decoded", group=DATA, least=1)
