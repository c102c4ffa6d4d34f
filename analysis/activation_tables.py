"""Findings of a task's activations as a table for the terminal."""

from __future__ import annotations

from collections.abc import Mapping

from rich.console import Group, RenderableType
from rich.text import Text

from analysis.activation_figures_common import spread_over
from analysis.narrow import Column, tables
from softprior.activations.findings.prompts import SitePrompts
from softprior.activations.findings.ratios import Ratio, answer_ratio, radii_ratio, trace_ratio
from softprior.activations.findings.record import Unread, known
from softprior.activations.findings.sites import SiteFindings
from softprior.inputs.labels import counted

ROWS = 8
"""Most sites in a table; the file has all."""

COLUMNS = (
    "site",
    "sinks",
    "norm",
    "of sinks",
    "participation",
    "with sinks",
    "outlier dims",
    "trace / null",
    "answer / span",
    "radii / Gaussian's",
)

PROMPT_COLUMNS = (
    "site",
    "prompt",
    "vectors",
    "norm",
    "largest",
    "of tokens",
    "massive",
    "cut",
    "of cut",
)


def task_table(task: str, sites: Mapping[str, SiteFindings | Unread], width: int) -> RenderableType:
    """One row per site, at most `ROWS` of them, the first and the last among them.

    Args:
        sites: the task's part of the findings' `tasks`.
        width: characters on a line; columns that do not fit go below.
    """
    read = known(sites)
    tokens = max((found.tokens for found in read.values()), default=0)
    left_out = [f"{site}: {found.note}" for site, found in sites.items() if isinstance(found, Unread)]
    rows = [_row(site, read[site]) for site in spread_over(list(read), ROWS)]
    columns = [Column(name, [row[i] for row in rows], i == 0) for i, name in enumerate(COLUMNS)]
    title = f"{task}: {counted(tokens, 'token')} per site"
    return Group(Text(title), *tables(columns, width), *map(Text, left_out))


def prompt_table(sites: Mapping[str, SitePrompts | Unread], width: int) -> RenderableType:
    """One row per prompt and site, of at most `ROWS` sites.

    Args:
        sites: the findings' `prompts`.
        width: characters of a line.
    """
    read = known(sites)
    left_out = [f"{site}: {found.note}" for site, found in sites.items() if isinstance(found, Unread)]
    rows = []
    for site in spread_over(list(read), ROWS):
        for name, own in read[site].prompts.items():
            norms = map(_number, (own.norm, own.largest_norm, read[site].token_norm))
            massive = "" if own.massive is None else str(own.massive)
            rows.append((site, name, str(own.vectors), *norms, massive, str(own.cut), _number(own.cut_norm)))
    columns = [Column(name, [row[i] for row in rows], i < 2) for i, name in enumerate(PROMPT_COLUMNS)]
    title = Text("states at the positions of prompts")
    return Group(title, *tables(columns, width), *map(Text, left_out))


def _row(site: str, found: SiteFindings) -> tuple[str, ...]:
    return (
        site,
        f"{found.sink_share:.1%}",
        _number(found.norm),
        _number(found.sink_norm),
        _number(found.participation),
        _number(found.participation_with_sinks),
        "" if found.kurtosis is None else str(found.outlier_dimensions),
        _ratio(trace_ratio(found)),
        _ratio(answer_ratio(found)),
        _ratio(radii_ratio(found)),
    )


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _ratio(value: Ratio | None) -> str:
    return "" if value is None else str(value)
