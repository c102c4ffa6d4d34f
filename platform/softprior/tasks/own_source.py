"""Where a user's own rows come from: a file, a data set of the Hugging Face hub, or one for each split."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Annotated, NamedTuple

from pydantic import AfterValidator, Discriminator, Tag

from softprior.assets.data import CHOICE_COLUMNS, CHOICE_SETS, choice_rows, data_fingerprint
from softprior.assets.fingerprints import combined
from softprior.assets.hub import hub_dataset_commit
from softprior.errors import UserError, suggestion
from softprior.inputs.base import SaysWhere, Spec
from softprior.inputs.paths import home_path
from softprior.inputs.row_files import Item, rewritten, rows
from softprior.results.files import version_of
from softprior.tasks.base import SPLITS, Split
from softprior.tasks.hub_data import Columns, hub_columns, hub_rows
from softprior.tasks.sources import contents_fingerprint, is_path, require_filled

_HUB = re.compile(
    r"hub:(?P<repo>[^/@#]+/[^/@#]+)(/(?P<config>[^/@#]+))?(@(?P<revision>[^@#]+))?(#(?P<split>[^@#]+))?"
)

AS_WRITTEN = "-3"
"""The end of a source's fingerprint where its rows were once read otherwise: numbers in another form, or one
of two columns of the same name. Other files have no such end, so that their trials keep their ids."""


BY_VALUE = "-4"
"""The end of a fingerprint where numbers once counted as others: 12 and 12.0 as different, and long ones of
JSON as equal."""


def _checked(source: str) -> str:
    if source in CHOICE_SETS or is_path(source) or _HUB.fullmatch(source):
        return source
    known = suggestion(source, list(CHOICE_SETS))
    if not source.startswith("hub:") and os.path.isdir(home_path(source)):
        raise ValueError(
            f"is a folder, but rows are read from files; name one of its files, as in {source}/rows.jsonl"
        )
    raise ValueError(
        f"is not a source of rows; {known}; or a path (with a slash or a dot), "
        "or hub:OWNER/NAME, optionally with /CONFIG, @REVISION and #SPLIT behind it"
    )


Source = Annotated[str, AfterValidator(_checked)]
"""A file of rows, a set of the catalogue, or `hub:OWNER/NAME/CONFIG@REVISION#SPLIT`, of which only OWNER and
NAME must be there."""


class Files(Spec):
    """A source for each split. Without one of the last two, the other is halved into both.

    Attributes:
        train, validation, test: as in `Source`.
    """

    train: Source
    validation: Source | None = None
    test: Source | None = None


def _form(data: object) -> str:
    return "mapping" if isinstance(data, dict | Files) else "text"


Data = Annotated[
    Annotated[Source, Tag("text")] | Annotated[Files, Tag("mapping")], Discriminator(_form), SaysWhere()
]
"""One source, or one for each split. An error concerns only the form that is written."""


class Part(NamedTuple):
    """A source of rows and the split that it is for; `train` if it is the only one."""

    split: Split
    source: str

    @property
    def local(self) -> Path | None:
        """The user's file; None for a data set of the catalogue or the hub."""
        return home_path(self.source) if is_path(self.source) else None

    def fingerprint(self) -> str:
        """Identifies the contents.

        Raises:
            UserError: the file is missing or unreadable; the hub has no such data set or cannot be reached.
        """
        if self.local is not None:
            file = _file(self.local)
            return contents_fingerprint([file]) + (AS_WRITTEN if _rewritten(file, version_of(file)) else "")
        if self.source in CHOICE_SETS:
            return data_fingerprint(self.source)
        repo, config, split = self._on_hub()
        # Whether there are numbers in it is not known without fetching it.
        return f"{repo} {config or ''} {split}{AS_WRITTEN}{BY_VALUE}"

    def items(self) -> Iterator[Item]:
        """The rows, each with where it is.

        Raises:
            UserError: the source is missing, damaged, or of another kind.
        """
        if self.local is not None:
            return rows(_file(self.local))
        if self.source in CHOICE_SETS:
            return rows(choice_rows(self.source))
        found = hub_rows(*self._on_hub(), streaming=False)
        return (Item(f"row {number}", row) for number, row in enumerate(found))

    def columns(self) -> Columns | None:
        """The columns of a data set of the catalogue or the hub; None where the hub cannot be asked.

        Raises:
            UserError: the hub has no such data set, configuration or split.
        """
        if self.source in CHOICE_SETS:
            return Columns(CHOICE_COLUMNS, of_all_rows=True)
        return hub_columns(*self._on_hub())

    def missing(self, named: Iterable[str]) -> list[str]:
        """Which of these columns the first row of a data set of the hub does not have, though others may.

        Raises:
            UserError: no row has one of them, or the data set is not on the hub.
        """
        found = self.columns()
        if found is None:
            return []
        # What objects have inside of them is known only of rows.
        missing = [name for name in named if not {name, name.partition(".")[0]} & set(found.names)]
        if missing and found.of_all_rows:
            closest = suggestion(missing[0], list(found.names))
            raise UserError(f"{self.source} has no column '{missing[0]}'; {closest}")
        return missing

    def _on_hub(self) -> tuple[str, str | None, str]:
        """The data set with its commit, its configuration, and its split."""
        match = _HUB.fullmatch(self.source)
        assert match is not None
        commit = hub_dataset_commit(match["repo"], match["revision"] or "main")
        return f"{match['repo']}@{commit}", match["config"], match["split"] or self.split


def _file(path: Path) -> Path:
    """Returns the path if it is a file with anything in it.

    Raises:
        UserError: it is not.
    """
    if require_filled(path).is_dir():
        raise UserError(f"{path} is a folder, but rows are read from files; name one of its files")
    return path


@lru_cache(maxsize=32)
def _rewritten(path: Path, version: tuple[int, ...]) -> bool:  # noqa: ARG001  written anew, read anew
    return rewritten(path)


def parts_of(data: str | Files) -> list[Part]:
    """The sources of a task's `data`, the one to train on first."""
    if isinstance(data, str):
        return [Part("train", data)]
    found: list[tuple[Split, str | None]] = [(split, getattr(data, split)) for split in SPLITS]
    return [Part(split, source) for split, source in found if source is not None]


def fingerprint_of(parts: list[Part]) -> str:
    """Identifies the contents of all sources and which split each is for."""
    if len(parts) == 1:
        return parts[0].fingerprint()
    return combined(*(f"{part.split} {part.fingerprint()}" for part in parts))[:16]
