"""All that a store says: one value with declared fields, from computation to figures, and its file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from softprior.activations.findings.groups import GroupFindings
from softprior.activations.findings.pairs import NearestFindings, PairFindings
from softprior.activations.findings.prompts import SitePrompts
from softprior.activations.findings.sites import SiteFindings
from softprior.errors import UserError
from softprior.inputs.base import Spec
from softprior.results.digested import digested_text, write_digested
from softprior.results.numbers import Numbers
from softprior.results.storage import Location

BETWEEN = " / "
"""Stands between two tasks in the name of their pair."""


class Unread(Spec):
    """A site without findings.

    Attributes:
        note: why it has none.
    """

    note: str


class Findings(Numbers):
    """The numbers of all tasks, sites and pairs, with corrected p-values and in sentences.

    Attributes:
        seed: of every draw.
        sites: in the model's order.
        tasks: by task and site.
        pairs: by pair ("a / b") and site.
        groups: by task and site, of tasks that have groups.
        nearest: by site, with three tasks or more.
        prompts: by site, of a run that followed prompts; no other number has a part of them.
        sentences: what the numbers say about each claim.
        commit: of the code that found them, see `provenance`.
        sources: its hash.
        summary: SHA-256 of the summary of the run that made the store; None for another store.
    """

    seed: int
    sites: tuple[str, ...]
    tasks: dict[str, dict[str, SiteFindings | Unread]]
    pairs: dict[str, dict[str, PairFindings | Unread]]
    groups: dict[str, dict[str, GroupFindings | Unread]]
    nearest: dict[str, NearestFindings | Unread]
    prompts: dict[str, SitePrompts | Unread] = {}
    sentences: tuple[str, ...] = ()
    commit: str | None
    sources: str
    summary: str | None = None


Found = TypeVar("Found", bound=Numbers)


def known(sites: Mapping[str, Found | Unread]) -> dict[str, Found]:
    """The sites that have findings."""
    return {site: found for site, found in sites.items() if not isinstance(found, Unread)}


def save_findings(path: Location, found: Findings) -> None:
    """Writes findings atomically; the file reads back as the same value."""
    write_digested(path, found.model_dump(mode="json"))


def load_findings(path: Location) -> Findings:
    """Reads findings.

    Raises:
        UserError: the file is damaged, or of code that found other numbers.
    """
    try:
        return Findings.model_validate_json(digested_text(path))
    except ValueError as error:
        first = str(error).splitlines()[0]
        raise UserError(
            f"{path} does not contain findings of this version ({first}); delete it, and the command "
            "computes them again"
        ) from None
