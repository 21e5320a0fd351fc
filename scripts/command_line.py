"""What every script does around its one library call."""

import os
import sys
from collections.abc import Callable, Sequence

# TensorFlow reads it once, when it is first imported.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

from absl import app, flags, logging

BAD_INPUT = 2


def run(main: Callable[[], None]) -> None:
    """Parses absl flags and calls `main`; a bad flag, a stray argument or an `InputError` gives one line and exit code 2."""

    def parse(argv: Sequence[str]) -> list[str]:
        try:
            arguments = flags.FLAGS(argv)
        except (flags.Error, OSError) as error:
            _fail(error)
        if len(arguments) > 1:
            _fail(f"options are flags, --name=value. Received: {' '.join(arguments[1:])}")
        return arguments

    def guarded(_) -> None:
        logging.set_verbosity(logging.WARNING)  # of TensorFlow; our own loggers have their own level
        from keras_widerresnet.errors import InputError

        try:
            main()
        except InputError as error:
            _fail(error)

    app.run(guarded, flags_parser=parse)


def _fail(error: object) -> None:
    print(f"{os.path.basename(sys.argv[0])}: {error}", file=sys.stderr)
    sys.exit(BAD_INPUT)
