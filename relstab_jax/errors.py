"""The one exception that speaks to the user."""


class InputError(ValueError):
    """A request that cannot be met: says what was given, what is allowed and what to do.

    Raised before anything is compiled or written; the command line prints it without a traceback.
    """
