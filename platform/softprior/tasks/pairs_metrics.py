"""Metrics of answers to a user's own rows, by name."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from fractions import Fraction
from functools import lru_cache
from typing import Literal, NamedTuple

from softprior.tasks.squad_metrics import overlap

Metric = Literal["exact_match", "f1", "contains", "number", "regex"]

_NUMBER = re.compile(
    r"""
    (?P<sign>[-+])?
    (?P<whole>[0-9]{1,3}(,[0-9]{3})+|[0-9]*)
    (\.(?P<decimals>[0-9]+))?
    ([eE](?P<power>[-+]?[0-9]{1,3}))?
    (/(?P<below>[0-9]+))?
    """,
    re.VERBOSE,
)
_MOST_DIGITS = 4300
"""Digits that Python turns into an integer."""


class Judge(NamedTuple):
    """One metric.

    Attributes:
        columns: names of the numbers that it gives, the metric's own first.
        score: those of an answer.
        usable: what is wrong with an accepted answer that the metric cannot compare; None if nothing is.
    """

    columns: tuple[str, ...]
    score: Callable[[str, Sequence[str]], Mapping[str, float]]
    usable: Callable[[str], str | None] = lambda _: None


def exact_match(prediction: str, answers: Sequence[str]) -> float:
    """1.0 where the text is an accepted answer, apart from white space; case and punctuation count."""
    return float(_spaced(prediction) in {_spaced(answer) for answer in answers})


def contains(prediction: str, answers: Sequence[str]) -> float:
    """1.0 where an accepted answer occurs in the text as whole words and numbers, whatever the case."""
    text = _spaced(prediction).casefold()
    return float(any(re.search(_whole(_spaced(answer).casefold()), text) for answer in answers))


def _whole(answer: str) -> str:
    """A pattern of an answer that is not part of a word, nor of a number: `4` is not in `-4.5`."""
    before = r"(?<![-+.\N{MINUS SIGN}])(?<!\d,)" if answer[:1].isdecimal() else ""
    after = r"(?![.,]\d)" if answer[-1:].isdecimal() else ""
    return rf"(?<!\w){before}{re.escape(answer)}(?!\w){after}"


def number(text: str) -> Fraction | None:
    """The value of a text that is a number; None for any other.

    `1,000`, `-0.5`, `3/4`, `1e3`, with a full stop behind it or white space around it. A sign of currency or
    a per cent sign is not part of a number, as it says of what it is one.
    """
    text = text.strip().replace("\N{MINUS SIGN}", "-").removesuffix(".")
    match = _NUMBER.fullmatch(text)
    if match is None or len(text) > _MOST_DIGITS or not (match["whole"] or match["decimals"]):
        return None
    above = (match["sign"] or "") + (match["whole"] or "0").replace(",", "")
    value = Fraction(Decimal(f"{above}.{match['decimals'] or 0}e{match['power'] or 0}"))
    below = Fraction(match["below"]) if match["below"] else Fraction(1)
    return value / below if below else None


def equal_numbers(prediction: str, answers: Sequence[str]) -> float:
    """1.0 where the text is a number and equals an accepted one exactly, however both are written."""
    value = number(prediction)
    return float(value is not None and value in {number(answer) for answer in answers})


def _in_group(pattern: str, text: str) -> str | None:
    """What the pattern's first group (the whole match if it has none) has last matched in a text.

    A match of nothing is none: a pattern that can match it does so at the end of every text.
    """
    compiled = _compiled(pattern)
    values = (_spaced(match[min(1, compiled.groups)] or "") for match in compiled.finditer(text))
    return next((value for value in reversed(list(values)) if value), None)


def equal_groups(pattern: str, prediction: str, answers: Sequence[str]) -> float:
    """1.0 where the pattern finds the same in the text as in an accepted answer; the last match counts."""
    value = _in_group(pattern, prediction)
    return float(value is not None and value in {_in_group(pattern, answer) for answer in answers})


def judge(metric: Metric, pattern: str | None) -> Judge:
    """The metric of a name.

    Args:
        pattern: of `regex`, which needs one.
    """
    if metric == "f1":
        return Judge(("f1", "precision", "recall"), lambda said, answers: overlap(said, answers)._asdict())
    if metric == "number":
        return _single(metric, equal_numbers, _no_number)
    if metric == "regex":
        wanted = pattern or ""
        return _single(
            metric,
            lambda said, answers: equal_groups(wanted, said, answers),
            lambda answer: "the pattern finds nothing in" if _in_group(wanted, answer) is None else None,
        )
    return _single(metric, contains if metric == "contains" else exact_match)


def _single(
    name: str,
    score: Callable[[str, Sequence[str]], float],
    usable: Callable[[str], str | None] = lambda _: None,
) -> Judge:
    return Judge((name,), lambda said, answers: {name: score(said, answers)}, usable)


def _no_number(answer: str) -> str | None:
    return "there is no number in" if number(answer) is None else None


def _spaced(text: str) -> str:
    return " ".join(text.split())


@lru_cache
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern)
