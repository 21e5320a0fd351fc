"""Progress bars in one style: updated live in a terminal, one line every 30 seconds in a log file."""

from __future__ import annotations

import sys

from tqdm import tqdm

LOG_SECONDS = 30


def progress_bar(*args, **options) -> tqdm:
    """Returns a `tqdm` bar over images, with throughput and remaining time; accepts tqdm's own arguments."""
    interval = 0.5 if sys.stderr.isatty() else LOG_SECONDS
    return tqdm(*args, **{"unit": "img", "unit_scale": True, "dynamic_ncols": True, "mininterval": interval, **options})
