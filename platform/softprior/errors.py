"""Errors that several parts know: the one a user is meant to read, and the loss of a host."""

from softprior.hiding import hidden


class UserError(Exception):
    """Something the user can mend: the rule, the value received and the remedy, in one sentence.

    Entry points print the sentence without a traceback and exit with status 2. Passwords in addresses are
    hidden in it.
    """

    def __init__(self, sentence: str) -> None:
        super().__init__(hidden(sentence))


class InUseError(UserError):
    """Another process works in the results folder, and the study's MLflow runs are its affair."""


class HostLostError(Exception):
    """What held the model is gone, and nothing of the request was done; the next one starts it anew."""


SHOWN = 15
"""Names that one sentence lists at most."""


def nearest(word: str, known: list[str]) -> str:
    """The remedy for an unknown name: the closest known one, if any is close, and the whole choice."""
    import difflib

    close = difflib.get_close_matches(word, known, n=1)
    hint = f"did you mean '{close[0]}'? " if close else ""
    names = sorted(known)
    more = f", and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return f"{hint}Known: {', '.join(names[:SHOWN])}{more}"
