"""The error that the user can mend."""


class UserError(Exception):
    """Something that was given, or that lies on disk, is not as it must be; the message says what, and the way out."""
