"""The command line: `keras-widerresnet COMMAND`, and the same commands as scripts."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from keras_widerresnet.options import did_you_mean

if TYPE_CHECKING:
    from keras_widerresnet.cli.command import Command

PROGRAM = "keras-widerresnet"
COMMANDS = (
    "train",
    "train-segmentation",
    "evaluate",
    "evaluate-segmentation",
    "predict",
    "activation-maps",
    "export",
    "convert",
    "analyze",
    "compare-runs",
    "describe-networks",
    "list-weights",
    "load-test",
    "write-tfrecords",
)


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs `keras-widerresnet` with `arguments`, by default those of this process."""
    from keras_widerresnet.cli.command import HELP_FLAGS, execute, fail

    name, *others = list(sys.argv[1:] if arguments is None else arguments) or ["--help"]
    if name in HELP_FLAGS:
        print(_overview())
        return
    if name.replace("_", "-") not in COMMANDS:
        fail(PROGRAM, f"{name!r} is not a command; the commands are {', '.join(COMMANDS)}{did_you_mean(name, COMMANDS)}")
    execute(command_named(name), others, f"{PROGRAM} {name}", owns_process=arguments is None)


def command_named(name: str) -> Command:
    """Returns the `command.Command` for a name in `COMMANDS`."""
    return importlib.import_module(f"{__name__}.{name.replace('-', '_')}").COMMAND


def _overview() -> str:
    width = max(map(len, COMMANDS)) + 2
    lines = [f"  {name:<{width}}{command_named(name).summary}" for name in COMMANDS]
    return "\n".join(["Train, evaluate, analyse and export wide residual networks.", "", *lines, "", f"Flags: {PROGRAM} COMMAND --help"])
