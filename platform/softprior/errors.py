"""The one exception a user is meant to read."""


class UserError(Exception):
    """Something the user can mend: the rule, the value received and the remedy, in one sentence.

    Entry points print the sentence without a traceback and exit with status 2.
    """


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
