"""The exceptions that are for people: their message is all that needs to be shown."""


def first_line(error: BaseException) -> str:
    """What an exception of a library says, as far as it goes into a message of ours; its kind where it says nothing."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)


class InputError(ValueError):
    """Bad input from the user; its message says what was wrong and what would be right.

    Library callers can catch it as a `ValueError`. The scripts print the message alone and exit with code 2.
    """


class RunStopped(Exception):
    """A run that had to stop and can be resumed; the scripts print the message and exit with `exit_code`."""

    def __init__(self, message: str, exit_code: int = 1):
        super().__init__(message)
        self.exit_code = exit_code
