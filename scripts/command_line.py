"""What every script does around its one library call."""

import os
import sys
from collections.abc import Callable, Sequence

# TensorFlow reads it once, when it is first imported.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

from absl import app, flags, logging

BAD_INPUT = 2
HUGE_PAGES = "glibc.malloc.hugetlb=1"


def run(main: Callable[..., None], arguments: str = "") -> None:
    """Parses absl flags and calls `main`; a bad flag, a stray argument or an `InputError` gives one line and exit code 2.

    With `arguments`, the name of what may stand beside the flags, `main` takes the list of them, which is not empty.
    """

    def parse(argv: Sequence[str]) -> list[str]:
        try:
            given = flags.FLAGS(argv)
        except (flags.Error, OSError) as error:
            _fail(error)
        if len(given) > 1 and not arguments:
            _fail(f"options are flags, --name=value. Received: {' '.join(given[1:])}")
        if len(given) == 1 and arguments:
            _fail(f"give at least one {arguments}")
        return given

    def guarded(argv: Sequence[str]) -> None:
        logging.set_verbosity(logging.WARNING)  # of TensorFlow; our own loggers have their own level
        from keras_widerresnet.errors import InputError, RunStopped

        try:
            main(*([argv[1:]] if arguments else []))
        except InputError as error:
            _fail(error)
        except RunStopped as error:
            _fail(error, error.exit_code)

    app.run(guarded, flags_parser=parse)


def restart_with_huge_pages() -> None:
    """Starts this process anew, under its number, with pages of 2 MB for large allocations; does nothing if it has them.

    glibc asks the system for them (Linux, glibc 2.35 and newer) if its environment said so before the process began.
    """
    tunables = os.environ.get("GLIBC_TUNABLES", "")
    if sys.platform == "linux" and HUGE_PAGES.partition("=")[0] not in tunables:
        os.environ["GLIBC_TUNABLES"] = f"{tunables}:{HUGE_PAGES}".lstrip(":")
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def hold_weights_frozen() -> None:
    """For scripts that only run networks: every convolution keeps its weights in oneDNN's own layout from its first call on.

    TensorFlow reads the setting at its first operation. A network whose weights are set after that would go on with the old ones.
    """
    os.environ.setdefault("TF_ONEDNN_ASSUME_FROZEN_WEIGHTS", "1")


def whole_numbers(name: str, what: str = "pixels") -> list[int]:
    """The numbers of a list flag.

    Raises:
        InputError: if one is no whole number, or 0.
    """
    from keras_widerresnet.errors import InputError

    given = flags.FLAGS[name].value
    if not all(number.isdecimal() and int(number) for number in given):
        raise InputError(f"--{name} are whole numbers of {what} joined by commas. Received: {','.join(given)}")
    return [int(number) for number in given]


def _fail(error: object, exit_code: int = BAD_INPUT) -> None:
    print(f"{os.path.basename(sys.argv[0])}: {error}", file=sys.stderr)
    sys.exit(exit_code)
