"""Names on the Hugging Face hub: of models, and of the files that it looks for."""

from __future__ import annotations

from softprior.errors import UserError

CARD = "README.md"
"""The model card's name on the hub."""


def check_name(name: str, what: str) -> None:
    """Checks that a text can be the name of a repository on the hub.

    Raises:
        UserError: it cannot.
    """
    if "/" not in name or not is_name(name):
        raise UserError(f"{what} is named OWNER/NAME, but {name!r} is not; correct it")


def is_name(text: str) -> bool:
    """Whether it is OWNER/NAME, or the NAME of one of the hub's first models, by the hub's own rules."""
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]  # its documented place

    try:
        validate_repo_id(text)
    except HFValidationError:
        return False
    return True
