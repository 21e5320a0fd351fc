"""Test protocols as records: crops of each image for classification, several views of the whole image for segmentation."""

from __future__ import annotations

import dataclasses

from keras_widerresnet.errors import InputError

INTERPOLATIONS = ("bicubic", "lanczos", "bilinear", "auto")
# Views per image, not counting mirror images, which "ten" includes by definition.
CROPS = {"center": 1, "three": 3, "ten": 5}


@dataclasses.dataclass(frozen=True)
class ClassificationProtocol:
    """The views of each test image on which a classification network is tested; probabilities are averaged over them.

    Args:
        scales: sizes in pixels to which the shorter side is resized, without duplicates.
        crop_size, crops, flip, interpolation: as in `tasks.classification.views.views`.

    Raises:
        InputError: if a size, the crops or the interpolation is not supported.
    """

    scales: tuple[int, ...]
    crop_size: int = 0
    crops: str = "center"
    flip: bool = False
    interpolation: str = "bicubic"

    def __post_init__(self):
        if self.interpolation not in INTERPOLATIONS:
            raise InputError(f"`interpolation` must be one of {INTERPOLATIONS}. Received: {self.interpolation!r}")
        view_count(self.crops, self.flip)
        checked_crop_size(self.crop_size or 1, self.crop_size)
        for scale in self.scales:
            checked_crop_size(scale, self.crop_size)
        if len(set(self.scales)) < len(self.scales):
            raise InputError(f"Scales must be different from each other. Received: {self.scales}")

    @property
    def count(self) -> int:
        """Number of views of one image at one scale."""
        return view_count(self.crops, self.flip)

    @property
    def sizes(self) -> tuple[int, ...]:
        """The side of the crops at each scale."""
        return tuple(checked_crop_size(scale, self.crop_size) for scale in self.scales)

    def __str__(self) -> str:
        kind = {"center": "centre crop", "three": "three crops", "ten": "ten crops"}[self.crops]
        sizes = ", ".join(f"{size} of scale {scale}" for size, scale in zip(self.sizes, self.scales, strict=True))
        return f"{kind}: {sizes}{'; mirrored too' if self.flip and self.crops != 'ten' else ''}"


def is_mirrored(crops: str, flip: bool) -> bool:
    """Whether every view is also tested mirrored."""
    return flip or crops == "ten"


def view_count(crops: str, flip: bool) -> int:
    """Returns the number of views of one image at one scale.

    Raises:
        InputError: if `crops` is unknown.
    """
    if crops not in CROPS:
        raise InputError(f"`crops` must be one of {tuple(CROPS)}. Received: {crops!r}")
    return CROPS[crops] * (2 if is_mirrored(crops, flip) else 1)


def checked_crop_size(scale: int, crop_size: int) -> int:
    """Returns the side of the crops; a `crop_size` of 0 means `scale`.

    Raises:
        InputError: if a size is not a whole number, the scale is not positive, or the crop is larger than the scale.
    """
    if not isinstance(scale, int) or scale < 1:
        raise InputError(f"Scales must be positive whole numbers of pixels. Received: {scale!r}")
    if not isinstance(crop_size, int) or crop_size < 0:
        raise InputError(f"`crop_size` must be a whole number of pixels, or 0 for the scale. Received: {crop_size!r}")
    if crop_size > scale:
        raise InputError(f"A crop of {crop_size} pixels cannot be cut from an image whose shorter side is {scale}")
    return crop_size or scale


@dataclasses.dataclass(frozen=True)
class SegmentationProtocol:
    """The views of each test image on which a segmentation network is tested (official release; tiles are our addition).

    Args:
        sizes: sizes in pixels to which the longer side is resized, without duplicates; probabilities are averaged over them. Empty for
            the original size.
        test_steps: number of shifted passes in each direction, a divisor of the output stride.
        flip: whether to average over the mirrored image too.
        tile: side in pixels, a multiple of the output stride, of the tiles into which larger images are cut; 0 for no tiles.
        overlap: minimum number of pixels that neighbouring tiles share.

    Raises:
        InputError: if a value is not supported.
    """

    sizes: tuple[int, ...] = ()
    test_steps: int = 1
    flip: bool = False
    tile: int = 0
    overlap: int = 0

    def __post_init__(self):
        if any(not isinstance(size, int) or size < 1 for size in self.sizes):
            raise InputError(f"Sizes must be positive whole numbers of pixels. Received: {self.sizes}")
        if len(set(self.sizes)) < len(self.sizes):
            raise InputError(f"Sizes must be different from each other. Received: {self.sizes}")
        for name, least in (("test_steps", 1), ("tile", 0), ("overlap", 0)):
            if not isinstance(getattr(self, name), int) or getattr(self, name) < least:
                raise InputError(f"`{name}` must be a whole number, {least} or more. Received: {getattr(self, name)!r}")
        if self.overlap and self.overlap >= self.tile:
            raise InputError(f"`tile` must be larger than `overlap`. Received: tile={self.tile}, overlap={self.overlap}")

    def check(self, stride: int) -> None:
        """Raises `InputError` if the protocol does not suit networks of this output stride."""
        if stride % self.test_steps:
            raise InputError(f"`test_steps` must be a divisor of the output stride, {stride}. Received: {self.test_steps}")
        if self.tile % stride:
            raise InputError(f"`tile` must be a multiple of the output stride, {stride}. Received: {self.tile}")
        if self.tile and self.tile - self.overlap < stride:
            raise InputError(
                f"`tile` must be larger than `overlap` by at least the output stride, {stride}. "
                f"Received: tile={self.tile}, overlap={self.overlap}"
            )

    def __str__(self) -> str:
        parts = [f"longer side {', '.join(map(str, self.sizes))}" if self.sizes else "original size"]
        parts += [f"{self.test_steps} × {self.test_steps} shifts"] if self.test_steps > 1 else []
        parts += ["mirrored too"] if self.flip else []
        parts += [f"tiles of {self.tile}, overlapping by {self.overlap}"] if self.tile else []
        return "; ".join(parts)
