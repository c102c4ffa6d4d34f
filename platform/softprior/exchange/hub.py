"""Pushes a folder with an adapter and its model card to the Hugging Face hub."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

import httpx2
from huggingface_hub import HfApi
from huggingface_hub.errors import HfHubHTTPError, LocalTokenNotFoundError

from softprior.errors import UserError
from softprior.exchange.adapters import CONFIG, WEIGHTS, read_adapter

_PART = r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]*[A-Za-z0-9_])?"
_NAME = re.compile(f"{_PART}(?:/{_PART})?")
_LONGEST = 96
"""The hub's own rules for names."""

CARD = "README.md"
"""The model card's name on the hub."""


class Pushed(NamedTuple):
    """What was sent, or would be.

    Attributes:
        repo: OWNER/NAME.
        sizes: bytes by the name of each file.
        address: of the commit; None for a dry run.
    """

    repo: str
    sizes: dict[str, int]
    address: str | None


def push(folder: Path, repo: str, *, private: bool = False, dry: bool = False) -> Pushed:
    """Sends the three files of an exported prompt to a model repository, which is made if it does not exist.

    The hub's own login is used: `hf auth login`, or the environment variable HF_TOKEN.

    Args:
        dry: only checks the folder and the name, without a network.

    Raises:
        UserError: the folder is not complete or names a folder of this machine as its base model, the name
            is not one, or the hub cannot be reached or refuses.
    """
    check_name(repo, "a model repository")
    base = str(read_adapter(folder).config.get("base_model_name_or_path"))
    if not (folder / CARD).is_file():
        raise UserError(f"{folder} has no model card ({CARD}); make the folder with the command `card`")
    if not _is_name(base) or Path(base).exists():
        raise UserError(
            f"{folder} names a folder of this machine as its base model ({base}), where nobody else finds "
            "it; make it again with --base OWNER/NAME, the model's name on the hub"
        )
    sizes = {name: (folder / name).stat().st_size for name in (CONFIG, WEIGHTS, CARD)}
    return Pushed(repo, sizes, None if dry else _send(folder, repo, private, list(sizes)))


def check_name(name: str, what: str) -> None:
    """Checks that a text can be the name of a repository on the hub.

    Raises:
        UserError: it cannot.
    """
    if "/" not in name or not _is_name(name):
        raise UserError(f"{what} is named OWNER/NAME, but {name!r} is not; correct it")


def _is_name(text: str) -> bool:
    """Whether it is OWNER/NAME, or the NAME of one of the hub's first models."""
    return len(text) <= _LONGEST and not re.search(r"--|\.\.", text) and bool(_NAME.fullmatch(text))


def _send(folder: Path, repo: str, private: bool, names: list[str]) -> str:
    api = HfApi()
    try:
        api.create_repo(repo, private=private, exist_ok=True)
        if private and not api.model_info(repo).private:
            raise UserError(
                f"the repository {repo} exists and is public, so nothing was sent; make it private on the "
                "hub, or leave --private out"
            )
        commit = api.upload_folder(
            repo_id=repo,
            folder_path=folder,
            allow_patterns=names,
            commit_message="A prompt tuned with softprior",
        )
    except LocalTokenNotFoundError:
        raise UserError("the hub wants to know who you are; run `hf auth login`, or set HF_TOKEN") from None
    except HfHubHTTPError as error:
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(
            f"the hub refuses {repo} ({first}); check the name and that your login may write there"
        ) from None
    except (OSError, httpx2.HTTPError) as error:
        raise UserError(
            f"the hub cannot be reached ({error}); run the same command with --dry-run to check the folder"
        ) from None
    return str(commit.commit_url)
