"""A hub for tests, which cannot reach one: what `datasets` is asked, and the rows that it gives."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from types import SimpleNamespace
from typing import Any

import pytest
from datasets import SplitDict, SplitInfo


class Hub:
    """Data sets of any name.

    Attributes:
        rows: gives those of a split.
        columns, splits: what a data set's card says of them; nothing if empty.
        commit: at which the data sets are; None for the one that is asked for.
        asked: data set, configuration, revision, split and whether it is streamed, for every reading.
    """

    def __init__(self, rows: Callable[[str], Iterable[Any]]) -> None:
        self.rows = rows
        self.columns: Sequence[str] = ()
        self.splits: Sequence[str] = ()
        self.commit: str | None = None
        self.asked: list[tuple[str, str | None, str | None, str, bool]] = []

    def builder(self, name: str, config: str | None, *, revision: str | None) -> SimpleNamespace:
        def read(split: str, streaming: bool) -> Iterable[Any]:
            self.asked.append((name, config, revision, split, streaming))
            return self.rows(split)

        return SimpleNamespace(
            hash=self.commit or revision,
            config=SimpleNamespace(name=config or "default"),
            info=SimpleNamespace(features=self.columns, splits=self._splits()),
            download_and_prepare=lambda: None,
            as_dataset=lambda split: read(split, False),
            as_streaming_dataset=lambda split: read(split, True),
        )

    def _splits(self) -> SplitDict | None:
        return SplitDict({name: SplitInfo(name) for name in self.splits}) if self.splits else None


def use(monkeypatch: pytest.MonkeyPatch, rows: Callable[[str], Iterable[Any]]) -> Hub:
    """A hub in place of the one on the network."""
    hub = Hub(rows)
    monkeypatch.setattr("softprior.tasks.hub_data.load_dataset_builder", hub.builder)
    monkeypatch.setattr("softprior.tasks.hub_data.asked_dataset_commit", lambda _, revision: revision)
    return hub
