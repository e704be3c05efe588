"""The error that a user can mend."""


class FractureMaeError(Exception):
    """Something the user gave or has cannot be used: says what was found, what was expected and what to do.

    Entry points print its message without a traceback and end with exit status 1.
    """


class NonFiniteError(FractureMaeError):
    """Numbers became infinite or NaN on the way: with these settings, training does not work."""


def first_line(error: BaseException) -> str:
    """The first line of what an error says, without a full stop, to stand in a sentence; its type where it says nothing."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
