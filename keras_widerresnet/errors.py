"""The exceptions that are for people: their message is all that needs to be shown."""


class InputError(ValueError):
    """Bad input from the user; its message says what was wrong and what would be right.

    Library callers can catch it as a `ValueError`. The scripts print the message alone and exit with code 2.
    """


class RunStopped(Exception):
    """A run that had to stop and can be resumed; the scripts print the message and exit with `exit_code`."""

    def __init__(self, message: str, exit_code: int = 1):
        super().__init__(message)
        self.exit_code = exit_code
