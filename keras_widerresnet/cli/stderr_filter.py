"""Copies standard input to standard error, line by line, without TensorFlow's start-up noise.

It runs as a process of its own, with the standard library alone: it outlives the command, so that what a command says as it crashes is
shown too. Its argument is the lowest severity of TensorFlow's log that is shown, as in TF_CPP_MIN_LOG_LEVEL.
"""

from __future__ import annotations

import os
import re
import signal
import sys

# "I0000 00:00:1795615094.428461    5110 port.cc:153] message", of the newer versions, and
# "2025-11-25 13:58:12.123456: I tensorflow/core/util/port.cc:153] message", of the older ones.
LOG_LINE = re.compile(
    rb"(?:([IWEF])\d{4} \d\d:\d\d:[\d.]+\s+\d+ |\d{4}-\d\d-\d\d \d\d:\d\d:[\d.]+: ([IWEF]) )\S+\.(?:cc|h|mm|cu):\d+\] (?P<text>.*)"
)
SEVERITIES = b"IWEF"
ERROR = SEVERITIES.index(b"E")
PREAMBLE = b"WARNING: All log messages before absl::InitializeLog() is called are written to STDERR"
# Second lines of messages, and lines of no severity.
OTHERS = re.compile(
    rb"To enable the following instructions: .*compiler flags\.$|Skipping registering GPU devices\.\.\.$|INFO: Created TensorFlow Lite "
)
# Said as errors on machines where nothing is wrong.
HARMLESS_ERRORS = re.compile(
    rb"oneDNN supports DT_\w+ only|Unable to register cu\w+ factory|computation placer already registered"
    rb"|[Ff]ailed call to cuInit: UNKNOWN ERROR \(303\)"  # there is no GPU driver
)


def is_noise(line: bytes, lowest: int) -> bool:
    """Whether a line says nothing of consequence.

    Args:
        line: without its end.
        lowest: severity from which on TensorFlow's log lines are shown: 0 for information, 1 for warnings, 2 for errors.
    """
    if line == PREAMBLE or OTHERS.match(line):
        return True
    match = LOG_LINE.match(line)
    if not match:
        return False
    severity = SEVERITIES.index(match[1] or match[2])
    return severity < lowest or (severity == ERROR and bool(HARMLESS_ERRORS.search(match["text"])))


def main() -> None:
    """Filters until the last writer is gone."""
    # A batch system's SIGTERM goes to all processes of a job; what the command says then is still to be shown.
    for name in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(name, signal.SIG_IGN)
    lowest = int(sys.argv[1])
    for line in sys.stdin.buffer:
        if not is_noise(line.rstrip(b"\r\n"), lowest):
            try:
                os.write(2, line)
            except OSError:  # nobody reads any more; the command must not be stopped by that
                continue


if __name__ == "__main__":
    main()
