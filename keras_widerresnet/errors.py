"""Exceptions whose message is all that the user needs to see."""


def first_line(error: BaseException) -> str:
    """Returns the first non-empty line of a library exception, for use in our own messages; its class name if there is none."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)


class InputError(ValueError):
    """Bad input from the user; its message says what was wrong and what would be right.

    Library callers can catch it as a `ValueError`. The scripts print the message alone and exit with code 2.
    """


class RunStopped(Exception):
    """Raised when a run had to stop and can be resumed; the scripts print the message and exit with `exit_code`."""

    def __init__(self, message: str, exit_code: int = 1):
        super().__init__(message)
        self.exit_code = exit_code
