"""The one exception for things a user typed or pointed at."""


class InputError(ValueError):
    """Bad input from the user; its message says what was wrong and what would be right.

    Library callers can catch it as a `ValueError`. The scripts print the message alone and exit with code 2.
    """
