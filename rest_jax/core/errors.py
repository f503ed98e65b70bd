"""Errors written for people: one line that says what, where and how to mend it."""


class UserError(Exception):
    """Something the user can mend. The command line prints it as one line on stderr and exits with code 2.

    The message names what is wrong, where, and what to do about it; it never carries a traceback.
    """


def reason(error: BaseException) -> str:
    """What an exception says, or its type when it says nothing."""
    return str(error) or type(error).__name__
