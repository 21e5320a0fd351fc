"""What the environment of a command's process has to be before TensorFlow is imported."""

from __future__ import annotations

import os
import sys

HUGE_PAGES = "glibc.malloc.hugetlb=1"
FROZEN_WEIGHTS = "TF_ONEDNN_ASSUME_FROZEN_WEIGHTS"


def quieten_tensorflow() -> None:
    """Leaves out what TensorFlow's C++ code says of no consequence; it reads the setting when it is first imported."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")


def restart_with_huge_pages() -> None:
    """Starts this process anew, under its number, with pages of 2 MB for large allocations; does nothing if it has them.

    glibc asks the system for them (Linux, glibc 2.35 and newer) if its environment said so before the process began.
    """
    tunables = os.environ.get("GLIBC_TUNABLES", "")
    if sys.platform == "linux" and HUGE_PAGES.partition("=")[0] not in tunables:
        os.environ["GLIBC_TUNABLES"] = f"{tunables}:{HUGE_PAGES}".lstrip(":")
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def hold_weights_frozen() -> None:
    """For commands that only run networks: every convolution keeps its weights in oneDNN's own layout from its first call on.

    TensorFlow reads the setting at its first operation. A network whose weights are set after that would go on with the old ones.
    """
    os.environ.setdefault(FROZEN_WEIGHTS, "1")
