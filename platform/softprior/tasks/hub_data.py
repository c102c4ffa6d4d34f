"""Data sets of the Hugging Face hub: their columns, known in advance, and their rows."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from typing import TYPE_CHECKING

import httpx2
from datasets import load_dataset_builder
from datasets.exceptions import DatasetsError
from huggingface_hub import is_offline_mode

from softprior.assets.hub import COMMIT, asked_dataset_commit
from softprior.errors import UserError
from softprior.inputs.data_files import plain
from softprior.inputs.row_files import as_typed

if TYPE_CHECKING:
    from datasets import DatasetBuilder

_ERRORS = (OSError, ValueError, RuntimeError, DatasetsError, httpx2.HTTPError)
"""What `datasets` raises of a data set that is not there, or that it cannot read or reach."""


@lru_cache(maxsize=32)
def hub_columns(name: str, config: str | None, split: str) -> tuple[str, ...] | None:
    """The columns of a split as the hub or its cache names them; where they do not, the first row does.

    Args:
        name: `owner/name@commit`.

    Returns:
        None where neither can be asked. The cache is asked in offline mode alone (HF_HUB_OFFLINE).

    Raises:
        UserError: there is no such data set, configuration or split, or it cannot be read.
    """
    repository, _, commit = name.partition("@")
    # Asked first, as `datasets` tries again and again where there is no network.
    if not is_offline_mode() and asked_dataset_commit(repository, commit) is None:
        return None
    try:
        builder = _builder(name, config)
        if builder.info.splits and split not in builder.info.splits:
            raise ValueError(f"no split '{split}', only {', '.join(builder.info.splits)}")
        return tuple(builder.info.features or next(iter(builder.as_streaming_dataset(split=split)), ()))
    except ConnectionError:
        return None
    except _ERRORS as error:
        raise _unreadable(name, error) from None


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
        ConnectionError: the hub cannot be reached, and its cache has another commit, which would be read.
    """
    repository, _, revision = name.partition("@")
    found = load_dataset_builder(repository, config, revision=revision or None)
    if re.fullmatch(COMMIT, revision) and found.hash != revision:
        raise ConnectionError(f"it cannot be reached, and its cache here has the commit {found.hash}")
    return found


def _unreadable(name: str, error: Exception) -> UserError:
    reason = plain((str(error).splitlines() or [type(error).__name__])[0])
    return UserError(
        f"could not read the data '{name}' from the Hugging Face hub ({reason}); "
        "check the name and the network, or set `data` to a local file"
    )
