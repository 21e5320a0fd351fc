"""Class probabilities at every pixel of an image: multiple sizes, shifted and mirrored passes, tiles, and upsampling of cells to pixels.

A network returns one value per cell of `stride` pixels; cell i represents pixel `i * stride + stride // 2`, where training reads its
label (official release). With `test_steps` = n, each cell is divided into n fine cells per direction, `step = stride / n` pixels apart;
fine cell j represents pixel `j * step + step // 2`. The image is shifted so that the network's cells represent these pixels, and the
n * n passes are interleaved.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
from scipy import sparse
from scipy.special import softmax

from keras_widerresnet.data.resize import normalise, resize_longer_side
from keras_widerresnet.enlarge import CUBIC_A
from keras_widerresnet.errors import InputError
from keras_widerresnet.protocols import SegmentationProtocol

Predict = Callable[[np.ndarray], np.ndarray]
CUBIC_SUPPORT = 2
PIXELS_TOGETHER = 1 << 20  # total pixels of the passes that form one batch
BAND_VALUES = 1 << 24  # number of scores in memory at a time if only the classes are needed


def pixel_scores(predict: Predict, image: np.ndarray, protocol: SegmentationProtocol, stride: int) -> np.ndarray:
    """Returns the probability of every class at every pixel, averaged over mirrored views and sizes (our choice).

    Args:
        predict: function from float32 images (n, H, W, 3), preprocessed by `preprocess_input`, to float logits (n, H / stride, W / stride,
            classes), where H and W are multiples of the stride.
        image: uint8 (H, W, 3).
        protocol: the test protocol.
        stride: the network's output stride.

    Returns:
        Float32 (H, W, classes); values may be slightly outside [0, 1] because of bicubic interpolation.

    Raises:
        InputError: if the protocol does not match the stride, or the outputs have another shape or are not finite.
    """
    return np.concatenate(list(_bands(predict, image, protocol, stride)))


def pixel_classes(predict: Predict, image: np.ndarray, protocol: SegmentationProtocol, stride: int) -> np.ndarray:
    """Returns the most probable class at every pixel, uint8 (H, W): `pixel_scores(...).argmax(axis=-1)`, but with less memory."""
    return np.concatenate([scores.argmax(axis=-1).astype(np.uint8) for scores in _bands(predict, image, protocol, stride)])


def cell_scores(predict: Predict, image: np.ndarray, protocol: SegmentationProtocol, stride: int) -> np.ndarray:
    """Returns the probabilities at the fine cells of an image without resizing it, averaged over mirrored views.

    Args:
        predict, protocol, stride: as in `pixel_scores`; the protocol's sizes are not used.
        image: float32 (H, W, 3), preprocessed by `preprocess_input`; it is padded with zeros to multiples of the stride.

    Returns:
        Float32 (H' / step, W' / step, classes) for the padded sizes H' and W'.

    Raises:
        InputError: as `pixel_scores`.
    """
    protocol.check(stride)
    step = stride // protocol.test_steps
    canvas = np.pad(image, [(0, -side % stride) for side in image.shape[:2]] + [(0, 0)])
    rows, columns = (_tiles(side, protocol, stride) for side in canvas.shape[:2])
    cells = np.empty(0, np.float32)
    for down in rows:
        for across in columns:
            found = _one_tile(predict, canvas[down.pixels, across.pixels], protocol, stride)
            if not cells.size:  # the first tile shows the number of classes
                cells = np.empty((canvas.shape[0] // step, canvas.shape[1] // step, found.shape[-1]), np.float32)
            cells[down.cells, across.cells] = found[down.own_cells, across.own_cells]
    return cells


def enlargement(pixels: int, cells: int, step: int) -> sparse.csr_array:
    """Returns the matrix, float32 (pixels, cells), that upsamples one axis: bicubic (Keys 1981, a = -0.5), edges are replicated.

    Pixel p lies at cell `(p - step // 2) / step`.
    """
    places = (np.arange(pixels) - step // 2) / step
    taps = np.floor(places)[:, None] + np.arange(1 - CUBIC_SUPPORT, 1 + CUBIC_SUPPORT)
    return _matrix(_cubic(places[:, None] - taps), np.clip(taps, 0, cells - 1), (pixels, cells))


def resampling(target: int, source: int) -> sparse.csr_array:
    """Returns the matrix, float32 (target, source), that resizes one axis as PIL does: bicubic, antialiased when shrinking."""
    scale = source / target
    stretch = max(scale, 1.0)
    places = (np.arange(target) + 0.5) * scale - 0.5
    reach = int(np.ceil(CUBIC_SUPPORT * stretch))
    taps = np.floor(places)[:, None] + np.arange(1 - reach, 1 + reach)
    weights = _cubic((places[:, None] - taps) / stretch) * ((taps >= 0) & (taps < source))
    return _matrix(weights / weights.sum(axis=1, keepdims=True), np.clip(taps, 0, source - 1), (target, source))


def _cubic(distance: np.ndarray) -> np.ndarray:
    x = np.abs(distance)
    near = (CUBIC_A + 2) * x**3 - (CUBIC_A + 3) * x**2 + 1
    far = CUBIC_A * (x**3 - 5 * x**2 + 8 * x - 4)
    return np.where(x <= 1, near, np.where(x < CUBIC_SUPPORT, far, 0.0))


def _matrix(weights: np.ndarray, columns: np.ndarray, shape: tuple[int, int]) -> sparse.csr_array:
    """Builds a sparse matrix from weights (rows, taps) and their columns (rows, taps); duplicate positions are summed."""
    rows = np.repeat(np.arange(shape[0]), weights.shape[1])
    matrix = sparse.coo_array((weights.ravel().astype(np.float32), (rows, columns.ravel().astype(np.int64))), shape).tocsr()
    matrix.eliminate_zeros()
    return matrix


def _bands(predict: Predict, image: np.ndarray, protocol: SegmentationProtocol, stride: int) -> Iterator[np.ndarray]:
    """Yields `pixel_scores` in bands of rows, from top to bottom."""
    height, width = image.shape[:2]
    parts = []
    for size in protocol.sizes or (None,):
        resized = image if size is None else resize_longer_side(image, size)
        cells = cell_scores(predict, normalise(resized).numpy(), protocol, stride)
        rows, columns = (
            resampling(side, seen) @ enlargement(seen, count, stride // protocol.test_steps)
            for side, seen, count in zip((height, width), resized.shape, cells.shape, strict=False)
        )
        parts.append((rows, _along_columns(columns, cells)))
    classes = cells.shape[-1]
    band = max(1, BAND_VALUES // (width * classes))
    for top in range(0, height, band):
        total = sum(rows[top : top + band] @ wide for rows, wide in parts)
        yield (total / len(parts)).reshape(-1, width, classes)


def _along_columns(columns: sparse.csr_array, cells: np.ndarray) -> np.ndarray:
    """Upsamples cells (h, w, classes) along the second axis; returns (h, W * classes)."""
    height, width, classes = cells.shape
    wide = columns @ cells.transpose(1, 0, 2).reshape(width, -1)
    return wide.reshape(-1, height, classes).transpose(1, 0, 2).reshape(height, -1)


class _Tile(NamedTuple):
    """A tile along one axis, and the fine cells that lie farther from the border in it than in other tiles, indexed in image and tile."""

    pixels: slice
    cells: slice
    own_cells: slice


def _tiles(side: int, protocol: SegmentationProtocol, stride: int) -> list[_Tile]:
    step, tile = stride // protocol.test_steps, protocol.tile
    if not tile or side <= tile:
        return [_Tile(slice(0, side), slice(None), slice(None))]
    starts = [*range(0, side - tile, (tile - protocol.overlap) // stride * stride), side - tile]
    # Halfway between the centres of neighbouring tiles.
    borders = [0, *((a + b + tile) // 2 // step for a, b in itertools.pairwise(starts)), side // step]
    spans = zip(starts, itertools.pairwise(borders), strict=True)
    return [_Tile(slice(a, a + tile), slice(*cells), slice(*(cell - a // step for cell in cells))) for a, cells in spans]


def _one_tile(predict: Predict, image: np.ndarray, protocol: SegmentationProtocol, stride: int) -> np.ndarray:
    """Computes `cell_scores` of an image, float32 (H, W, 3), with H and W multiples of the stride, by shifted and mirrored passes."""
    steps, (height, width) = protocol.test_steps, image.shape[:2]
    count = steps * steps * (1 + protocol.flip)
    together = max(1, PIXELS_TOGETHER // (height * width))
    passes = _passes(image, protocol, stride)
    batches = (np.stack([next(passes) for _ in range(min(together, count - first))]) for first in range(0, count, together))
    probabilities = np.concatenate([_probabilities(predict, batch, stride) for batch in batches])
    classes = probabilities.shape[-1]
    views = probabilities.reshape(steps, steps, -1, height // stride, width // stride, classes)
    views[:, :, 1:] = views[:, :, 1:, :, ::-1].copy()
    cells = views.mean(axis=2).transpose(2, 0, 3, 1, 4)
    return cells.reshape(height // stride * steps, width // stride * steps, classes)


def _passes(image: np.ndarray, protocol: SegmentationProtocol, stride: int) -> Iterator[np.ndarray]:
    """Yields the image shifted by each vertical and horizontal phase, each also mirrored if asked for; vacated pixels become zero."""
    height, width = image.shape[:2]
    step, own = stride // protocol.test_steps, stride // 2
    phases = [phase * step + step // 2 for phase in range(protocol.test_steps)]
    margins = ((stride, stride), (stride, stride), (0, 0))
    padded, mirrored = np.pad(image, margins), np.pad(image[:, ::-1], margins)

    def moved(source, down, right):
        return source[stride - down : stride - down + height, stride - right : stride - right + width]

    for row in phases:
        for column in phases:
            yield moved(padded, own - row, own - column)
            if protocol.flip:
                # Counted from the right, pixel `column` of a cell is pixel `stride - 1 - column`.
                yield moved(mirrored, own - row, own - (stride - 1 - column))


def _probabilities(predict: Predict, images: np.ndarray, stride: int) -> np.ndarray:
    logits = np.asarray(predict(images), np.float32)
    wanted = (len(images), images.shape[1] // stride, images.shape[2] // stride)
    if logits.ndim != 4 or logits.shape[:3] != wanted:
        raise InputError(
            f"A network of output stride {stride} must return {(*wanted, 'classes')} for {images.shape}. Received: {logits.shape}"
        )
    if not np.isfinite(logits).all():
        raise InputError("The network's outputs are NaN or infinite: its weights are damaged or belong to another network")
    return softmax(logits, axis=-1)
