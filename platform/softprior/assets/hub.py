"""Models from the Hugging Face hub: safetensors only, never remote code."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import httpx2
from huggingface_hub import HfApi, ModelInfo, snapshot_download
from huggingface_hub.errors import (
    GatedRepoError,
    HFValidationError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from softprior.assets import fingerprints
from softprior.assets.cache import cache_root
from softprior.assets.checkpoint import listed
from softprior.errors import UserError

COMMIT = r"[0-9a-f]{40}"
"""What names of commits look like."""

_FILES = ["*.safetensors", "*.json", "*.jinja", "tokenizer*", "*.model", "merges.txt", "vocab.txt"]


class HubModel(NamedTuple):
    """A hub model on this machine.

    Attributes:
        folder: the snapshot.
        commit: which identifies the weights.
        licence: as its card states it.
    """

    folder: Path
    commit: str
    licence: str


def hub_commit(repo: str, revision: str) -> str:
    """The commit that a revision refers to now; the hub is not asked if it already is a commit."""
    if re.fullmatch(COMMIT, revision):
        return revision
    with _explained(repo, revision):
        info = _info(repo, revision)
        return str(info.sha) if info else _snapshot(repo, revision, local_files_only=True).name


def hub_dataset_commit(repo: str, revision: str) -> str:
    """The same as `hub_commit` for a data set.

    Raises:
        UserError: the hub cannot be reached, or has no such data set or revision.
    """
    if re.fullmatch(COMMIT, revision):
        return revision
    found = asked_dataset_commit(repo, revision)
    if found is None:
        raise UserError(
            f"could not reach the hub to resolve '{revision}' of {repo} to a commit; name the commit, as "
            f"hub:{repo}@COMMIT, or give the path of a local file"
        )
    return found


def asked_dataset_commit(repo: str, revision: str) -> str | None:
    """The commit as the hub says it; None if it cannot be reached.

    Raises:
        UserError: the hub has no such data set or revision.
    """
    try:
        return str(HfApi(token=_token()).dataset_info(repo, revision=revision, timeout=15).sha)
    except (RepositoryNotFoundError, RevisionNotFoundError, HFValidationError):
        raise UserError(
            f"the hub has no data set '{repo}' with the revision '{revision}'; check both, or set HF_TOKEN "
            "if the data set is private"
        ) from None
    except (OSError, httpx2.HTTPError):
        return None


def hub_model(repo: str, revision: str) -> HubModel:
    """The model's snapshot, downloaded first if needed; without a network, the one already here.

    Gated models need the environment variable HF_TOKEN. Files go to the cache, or to the hub's own
    cache where HF_HOME or HF_HUB_CACHE is set, as on clusters that share one.

    Raises:
        UserError: the hub cannot be reached, or the model does not exist, is gated, or has no safetensors.
    """
    with _explained(repo, revision):
        info = _info(repo, revision)
        if info is None:
            folder = _snapshot(repo, revision, local_files_only=True)
            return HubModel(folder, folder.name, "not known without network")
        names = [file.rfilename for file in info.siblings or ()]
        if not any(name.endswith(".safetensors") for name in names):
            raise UserError(f"hub:{repo} contains no safetensors files; {_instead(names)}")
        folder = _snapshot(repo, str(info.sha))
        licence = info.card_data.get("license") if info.card_data else None
        return HubModel(folder, str(info.sha), str(licence or "not stated"))


def model_here(repo: str, commit: str) -> bool:
    """Whether the model's snapshot is on this machine, with its weights; the hub is not asked."""
    try:
        folder = _snapshot(repo, commit, local_files_only=True)
    except LocalEntryNotFoundError:
        return False
    return any(folder.glob("*.safetensors"))


@lru_cache
def hub_tokenizer(repo: str, commit: str) -> Path | None:
    """A folder with the model's config and tokenizer: its snapshot, or one with only these files.

    Args:
        commit: not a branch, whose snapshot here may be outdated.

    Returns:
        None if neither is available; fetching the model itself then says why.
    """
    with suppress(LocalEntryNotFoundError):
        return _snapshot(repo, commit, local_files_only=True)
    try:
        # Asked first, as a download tries again and again where there is no network.
        if _info(repo, commit) is None:
            return None
        folder = snapshot_download(
            repo,
            revision=commit,
            allow_patterns=[name for name in _FILES if not name.endswith(".safetensors")],
            # Apart from whole snapshots, which are taken to be whole where there is no network.
            cache_dir=cache_root() / "tokenizers" / "hub",
            token=_token(),
        )
    except (OSError, ValueError, httpx2.HTTPError):
        return None
    return Path(folder)


def require_intact(folder: Path) -> None:
    """Checks that the large files of a snapshot are the same as on the hub.

    They are links to files that are named after the SHA-256 of their intended content.

    Raises:
        UserError: one has other content.
    """
    for path in listed(folder, "*.safetensors"):
        name = path.resolve().name
        if re.fullmatch(r"[0-9a-f]{64}", name) and fingerprints.of_file(path) != name:
            raise UserError(
                f"{path} is damaged: it differs from the hub's file; delete {path.resolve()} and fetch it "
                "again"
            )


def _instead(names: list[str]) -> str:
    if any(name.endswith(".gguf") for name in names):
        return "download its GGUF file and give the path"
    return "convert its weights, or choose a revision that has them"


@contextmanager
def _explained(repo: str, revision: str) -> Iterator[None]:
    try:
        yield
    except GatedRepoError:
        raise UserError(
            f"hub:{repo} is gated; request access on its page and set HF_TOKEN to a token that has access"
        ) from None
    except RepositoryNotFoundError:
        raise UserError(
            f"the hub has no public model '{repo}'; check the name, or set HF_TOKEN if it is private"
        ) from None
    except RevisionNotFoundError:
        raise UserError(f"hub:{repo} has no revision '{revision}'; give a commit, tag or branch") from None
    except HFValidationError:
        raise UserError(f"'hub:{repo}' is not a valid model id; write it as hub:owner/name") from None
    except LocalEntryNotFoundError:
        raise UserError(
            f"hub:{repo} is not in the cache and the hub cannot be reached; run once with network access, "
            "or give the path of a local folder as the model's id"
        ) from None


def _info(repo: str, revision: str) -> ModelInfo | None:
    """What the hub says about the repository, or None if it cannot be reached."""
    try:
        return HfApi(token=_token()).model_info(repo, revision=revision, timeout=15)
    except (RepositoryNotFoundError, RevisionNotFoundError):
        raise
    except (OSError, httpx2.HTTPError):
        return None


def _snapshot(repo: str, revision: str, local_files_only: bool = False) -> Path:
    own = not ("HF_HOME" in os.environ or "HF_HUB_CACHE" in os.environ)
    folder = snapshot_download(
        repo,
        revision=revision,
        local_files_only=local_files_only,
        allow_patterns=_FILES,
        cache_dir=cache_root() / "hub" if own else None,
        token=_token(),
    )
    return Path(folder)


def _token() -> str | None:
    return os.environ.get("HF_TOKEN") or None
