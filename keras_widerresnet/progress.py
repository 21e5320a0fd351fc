"""Progress bars in one style: updated live in a terminal, one line every 30 seconds in a log file."""

from __future__ import annotations

import sys
import time

from tqdm import tqdm

LOG_SECONDS = 30
# The whole numbers: 3,840 images, not 3.84k.
FORMAT = "{desc}{percentage:3.0f}%|{bar}| {n:,}/{total:,}{unit} [{elapsed}<{remaining}, {rate_noinv_fmt}{postfix}]"


class LogBar(tqdm):
    """A bar for what is no terminal: whole lines, the first after half a minute, then one every half minute, and the last state."""

    def __init__(self, *args, **options):
        self._shown = time.monotonic()
        super().__init__(*args, **options)

    def display(self, msg=None, pos=None):
        """Writes a line if it is time for one; as `tqdm.display`, which would return to the line's begin."""
        if self.disable:  # it is being closed, which ends the line
            self.fp.write(str(self))
        elif msg is None and time.monotonic() - self._shown >= LOG_SECONDS:
            self._shown = time.monotonic()
            self.fp.write(f"{self}\n")
            self.fp.flush()
        return True

    def clear(self, nolock=False):
        """Nothing: lines of a log stay."""


def progress_bar(*args, unit: str = "images", **options) -> tqdm:
    """A bar over images, or other things, with throughput and remaining time.

    Args:
        unit: what is counted, in the plural.
        args, options: as of `tqdm`.
    """
    is_terminal = sys.stderr.isatty()
    kind, interval = (tqdm, 0.5) if is_terminal else (LogBar, LOG_SECONDS)
    is_counted = "total" in options or (args and hasattr(args[0], "__len__"))
    style = {"unit": f" {unit}", "dynamic_ncols": True, "mininterval": interval, "bar_format": FORMAT if is_counted else None}
    if "desc" in options:
        options["desc"] += ": "
    return kind(*args, **{**style, **options})
