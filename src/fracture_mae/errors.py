"""The error that a user can mend."""


class FractureMaeError(Exception):
    """Something the user gave or has cannot be used: says what was found, what was expected and what to do.

    Entry points print its message without a traceback and end with exit status 1.
    """


class NonFiniteError(FractureMaeError):
    """Numbers became infinite or NaN on the way: with these settings, training does not work."""
