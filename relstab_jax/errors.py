"""The exceptions that speak to the user."""


class InputError(ValueError):
    """A request that cannot be met: says what was given, what is allowed and what to do.

    Raised before anything is compiled or written; the command line prints it without a traceback.
    """


class Diverged(Exception):
    """A training whose loss is not finite any more; the command line prints it as one sentence."""
