"""The one exception that is meant for the user."""


class UserError(Exception):
    """Something outside the program must change: a file, a flag, a checkpoint, a full disk.

    The message is one line that says what is wrong, where, and what to do. The command line prints it without a
    traceback and exits with 2; every other exception is a bug and keeps its traceback.
    """


def first_line(error: BaseException) -> str:
    """What an exception says, in one line; its kind where it says nothing."""
    return next(iter(str(error).splitlines()), "") or type(error).__name__
