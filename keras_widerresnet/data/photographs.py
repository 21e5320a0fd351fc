"""Photographs bundled with scikit-learn, as JPEG files: for checks, calibration and benchmarks without user images."""

from __future__ import annotations

import io


def sample_jpegs(height: int, width: int) -> list[bytes]:
    """Returns scikit-learn's two photographs and their mirror images as JPEG files (quality 92, 4:2:0 chroma subsampling)."""
    from PIL import Image
    from sklearn.datasets import load_sample_images

    encoded = []
    for photograph in load_sample_images().images:
        for view in (photograph, photograph[:, ::-1]):
            buffer = io.BytesIO()
            Image.fromarray(view).resize((width, height), Image.Resampling.LANCZOS).save(buffer, "JPEG", quality=92)
            encoded.append(buffer.getvalue())
    return encoded
