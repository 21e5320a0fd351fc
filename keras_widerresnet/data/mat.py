"""SBD's masks: MATLAB files that hold a structure `GTcls` with the field `Segmentation` (Hariharan et al. 2011)."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import tensorflow as tf

MAT_SUFFIX, MAT_START = ".mat", b"MATLAB"
MOST_BYTES = 64 << 20  # of the decompressed values of a file; SBD's have less than 1 MB
_HEADER, _COMPRESSED = 128, 15  # the header's length, and the type of a compressed variable


def is_mat(raw: tf.Tensor) -> tf.Tensor:
    """Returns whether bytes begin as a MATLAB file does, as a bool tensor; a graph function."""
    return tf.strings.substr(raw, 0, len(MAT_START)) == MAT_START


def mat_values(raw: tf.Tensor) -> tf.Tensor:
    """Decodes the bytes of a MATLAB file of SBD to its values, uint8 (H, W); a graph function, which calls SciPy.

    Raises:
        tf.errors.InvalidArgumentError: for any other file.
    """
    # NumPy's byte strings lose zeros at their end, hence a byte that is not zero.
    ended = tf.strings.join([raw, "."])
    values = tf.numpy_function(lambda encoded: values_of_sbd(np.asarray(encoded).item()[:-1]), [ended], tf.uint8, stateful=False)
    return tf.ensure_shape(values, [None, None])


def values_of_sbd(encoded: bytes) -> np.ndarray:
    """Returns the values in a MATLAB file of SBD, uint8 (H, W): 0 for the background, 1 to 20 for VOC's classes.

    Raises:
        ValueError: for any other file, with a predicate to follow its name.
    """
    import scipy.io

    _check_size(encoded)
    try:
        values = scipy.io.loadmat(io.BytesIO(encoded), variable_names=["GTcls"])["GTcls"]["Segmentation"][0, 0]
    except Exception as error:  # SciPy raises many kinds
        raise ValueError(f"cannot be read as one of SBD's MATLAB files, with GTcls.Segmentation ({type(error).__name__})") from None
    if values.ndim != 2 or values.dtype.kind not in "uif" or not ((values >= 0) & (values <= 255) & (values % 1 == 0)).all():
        raise ValueError(f"must hold whole numbers of a byte for each pixel in GTcls.Segmentation, not {values.dtype} of {values.shape}")
    return np.ascontiguousarray(values, np.uint8)


def _check_size(encoded: bytes) -> None:
    """Raises `ValueError` if decompressing a file's variables would need more than `MOST_BYTES`, as a small file could."""
    for order in "<>":
        place, total = _HEADER, 0
        while place + 8 <= len(encoded):
            kind, length = struct.unpack_from(f"{order}II", encoded, place)
            place += 8
            if kind == _COMPRESSED:
                reader = zlib.decompressobj()
                try:
                    total += len(reader.decompress(encoded[place : place + length], MOST_BYTES))
                except zlib.error:
                    break  # damaged, which SciPy will say, or of the other order
                if reader.unconsumed_tail or total > MOST_BYTES:
                    raise ValueError(f"holds more than {MOST_BYTES >> 20} MB of decompressed values")
            place += length
