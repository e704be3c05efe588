"""The error of a file that holds no picture that can be used."""


class UnreadableImage(ValueError):
    """The content is no picture that can be used; the message says why."""
