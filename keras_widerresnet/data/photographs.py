"""Photographs that come with a library, as JPEG files: for checks, calibration and benchmarks where nobody gives images."""

from __future__ import annotations

import io


def sample_jpegs(height: int, width: int) -> list[bytes]:
    """scikit-learn's two photographs and their mirror images as JPEG files (quality 92, colours at half resolution)."""
    from PIL import Image
    from sklearn.datasets import load_sample_images

    encoded = []
    for photograph in load_sample_images().images:
        for view in (photograph, photograph[:, ::-1]):
            buffer = io.BytesIO()
            Image.fromarray(view).resize((width, height), Image.Resampling.LANCZOS).save(buffer, "JPEG", quality=92)
            encoded.append(buffer.getvalue())
    return encoded
