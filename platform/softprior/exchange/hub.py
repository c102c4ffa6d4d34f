"""Pushes a folder with an adapter and its model card to the Hugging Face hub."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from softprior.assets.catalogue import catalogue
from softprior.errors import UserError
from softprior.exchange.adapters import CONFIG, WEIGHTS, read_adapter
from softprior.exchange.names import CARD, check_name, is_name


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
        UserError: the folder is not complete or names a model of this machine as its base model, the name
            is not one, or the hub cannot be reached or refuses.
    """
    check_name(repo, "a model repository")
    base = str(read_adapter(folder).config.get("base_model_name_or_path"))
    if not (folder / CARD).is_file():
        raise UserError(f"{folder} has no model card ({CARD}); make the folder with the command `card`")
    if not is_name(base) or base in catalogue().models or Path(base).exists():
        raise UserError(
            f"{folder} names a model of this machine as its base model ({base}), where nobody else finds "
            "it; make it again with --base OWNER/NAME, the model's name on the hub"
        )
    sizes = {name: (folder / name).stat().st_size for name in (CONFIG, WEIGHTS, CARD)}
    return Pushed(repo, sizes, None if dry else _send(folder, repo, private, list(sizes)))


def _send(folder: Path, repo: str, private: bool, names: list[str]) -> str:
    import httpx2  # like the hub's client slow to import, and only sending needs them
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, LocalTokenNotFoundError

    api = HfApi()
    try:
        # Where an organisation makes repositories private by itself, False would make this one public.
        api.create_repo(repo, private=private or None, exist_ok=True)
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
