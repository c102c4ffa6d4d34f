"""Data sets of the Hugging Face hub: their columns, known in advance, and their rows."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

import httpx2
from datasets import load_dataset_builder
from datasets.exceptions import DatasetsError
from datasets.packaged_modules.cache.cache import Cache
from huggingface_hub import is_offline_mode

from softprior.assets.hub import COMMIT, asked_dataset_commit
from softprior.errors import UserError
from softprior.inputs.data_files import plain
from softprior.inputs.row_files import as_typed

if TYPE_CHECKING:
    from datasets import DatasetBuilder

_ERRORS = (OSError, ValueError, RuntimeError, DatasetsError, httpx2.HTTPError)
"""What `datasets` raises of a data set that is not there, or that it cannot read or reach."""


_SPLITS = re.compile(r"[\w.-]+(?=\s*(?:\[|\+|$))")
"""The names in a split as `datasets` writes them, such as the two of `train[:10%]+validation`."""


class Columns(NamedTuple):
    """What is known of the columns of a data set.

    Attributes:
        of_all_rows: whether every row has them; otherwise they are the first row's, and others may differ.
    """

    names: tuple[str, ...]
    of_all_rows: bool


@lru_cache(maxsize=32)
def hub_columns(name: str, config: str | None, split: str) -> Columns | None:
    """The columns of a split as the hub or its cache names them; where they do not, the first row does.

    Args:
        name: `owner/name@commit`.
        split: may be a part of a split, or the sum of several.

    Returns:
        None where neither can be asked. The cache is asked in offline mode alone (HF_HUB_OFFLINE).

    Raises:
        UserError: there is no such data set, configuration or split, it cannot be read or has no rows, or
            there is no network by choice and the cache does not have it.
    """
    # Asked first, as `datasets` tries again and again where there is no network.
    if not is_offline_mode() and not _reachable(*name.split("@")):
        return None
    splits = _SPLITS.findall(split) or [split]
    try:
        builder = _builder(name, config)
        known = builder.info.splits or {}
        for one in splits if known else ():
            if one not in (*known, "all"):
                raise ValueError(f"no split '{one}', only {', '.join(known)}")
        if builder.info.features:
            return Columns(tuple(builder.info.features), of_all_rows=True)
        begun = next(iter(known)) if known and splits[0] == "all" else splits[0]
        first = next(iter(builder.as_streaming_dataset(split=begun)), None)
    except ConnectionError:
        return None
    except _ERRORS as error:
        raise _unreadable(name, error) from None
    if first is None:
        raise UserError(f"the split '{begun}' of the data '{name}' has no rows; name another split")
    return Columns(tuple(first), of_all_rows=False)


@lru_cache(maxsize=32)
def _reachable(repository: str, commit: str) -> bool:
    """Whether the hub can be asked, which takes long to find out where it cannot."""
    return asked_dataset_commit(repository, commit) is not None


def hub_rows(name: str, config: str | None, split: str, streaming: bool) -> Iterator[dict[str, object]]:
    """Rows of a dataset on the Hugging Face hub.

    Args:
        name: `owner/name`, optionally followed by `@` and a commit, tag or branch.
        streaming: read row by row instead of fetching the whole split first.

    Raises:
        UserError: the hub cannot be reached, or has no such dataset or split.
    """
    try:
        builder = _builder(name, config)
        if streaming:
            found = builder.as_streaming_dataset(split=split)
        else:
            builder.download_and_prepare()
            found = builder.as_dataset(split=split)
        features = getattr(found, "features", None)  # not known of every stream
        kinds = {field.name: field.type for field in features.arrow_schema} if features else {}
        for row in found:
            yield {name: as_typed(row[name], kinds[name]) if name in kinds else row[name] for name in row}
    except _ERRORS as error:
        raise _unreadable(name, error) from None


def _builder(name: str, config: str | None) -> DatasetBuilder:
    """What reads a data set, at the commit that is named.

    Raises:
        ConnectionError: the hub cannot be reached, and its cache does not have this commit.
        UserError: the same where there is no network by choice.
    """
    repository, _, revision = name.partition("@")
    try:
        found = load_dataset_builder(repository, config, revision=revision or None)
        if not re.fullmatch(COMMIT, revision) or found.hash == revision:
            return found
        # Without a network it is the cached commit that was written last, whichever is named.
        own = Cache(
            dataset_name=repository.rpartition("/")[2],
            repo_id=repository,
            config_name=config or found.config.name,
            hash=revision,
        )
        if not own.info.features:
            raise ConnectionError(f"it cannot be reached, and its cache here has the commit {found.hash}")
        return own
    except ConnectionError:
        if not is_offline_mode():
            raise
        raise UserError(
            f"the data '{name}' is not in the cache of the Hugging Face hub at this commit; unset "
            "HF_HUB_OFFLINE, so that it can be fetched"
        ) from None


def _unreadable(name: str, error: Exception) -> UserError:
    reason = plain((str(error).splitlines() or [type(error).__name__])[0])
    return UserError(
        f"could not read the data '{name}' from the Hugging Face hub ({reason}); "
        "check the name and the network, or set `data` to a local file"
    )
