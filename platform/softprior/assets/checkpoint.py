"""Which files of a model folder `from_pretrained` reads, and what their headers say."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from safetensors import SafetensorError, safe_open

from softprior.assets.architecture import LoadingInfo
from softprior.errors import UserError
from softprior.inputs.base import parsed_json
from softprior.inputs.labels import by_number, counted
from softprior.inputs.paths import LONGEST_NAME

SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"
"""The one file with all weights, which takes precedence, and the index of several files."""

SHOWN = 3
"""Number of tensors that an error names."""

_BESIDE = (
    *("config.json", "generation_config.json"),
    *("tokenizer*", "special_tokens_map.json", "added_tokens.json"),
    *("vocab.*", "merges.txt", "*.model", "*.jinja"),
)
"""Files besides the weights that determine what a model computes and how texts become tokens."""

_RANKS = re.compile(r"shard-\d{5}-model-\d{5}-of-\d{5}\.safetensors")
"""Files with the weights of single ranks, which transformers would prefer to all others."""

_POINTER = 1024
"""Upper bound on the size of a Git LFS pointer, in bytes."""


class Tensor(NamedTuple):
    """A stored tensor as its file's header describes it; `dtype` is named as in safetensors."""

    shape: tuple[int, ...]
    dtype: str


class Checkpoint(NamedTuple):
    """A model folder with all of its files.

    Attributes:
        config: what config.json says.
        weights: the safetensors files that are read, and no others.
        listing: the index that names them, if there are several.
        unread: names of other safetensors files in the folder.
    """

    folder: Path
    config: dict[str, object]
    weights: tuple[Path, ...]
    listing: Path | None
    unread: tuple[str, ...]

    def identifying(self) -> list[Path]:
        """All files on which weights, config and tokenizer depend."""
        listing = [self.listing] if self.listing is not None else []
        return [*beside(self.folder), *self.weights, *listing]

    def tensors(self) -> dict[str, Tensor]:
        """The stored tensors by name.

        Raises:
            UserError: a file is empty, truncated or damaged.
        """
        found: dict[str, Tensor] = {}
        for path in self.weights:
            try:
                with safe_open(path, framework="numpy") as file:
                    for name in file.keys():  # noqa: SIM118  no mapping
                        part = file.get_slice(name)
                        found[name] = Tensor(tuple(part.get_shape()), str(part.get_dtype()))
            except (SafetensorError, OSError, ValueError) as error:
                raise UserError(f"{path} is truncated or damaged ({error}); copy it again") from None
        return found


def listed(folder: Path, *patterns: str) -> list[Path]:
    """The files in a folder that match a pattern, sorted, without macOS's `._` files."""
    found = {path for pattern in patterns for path in folder.glob(pattern) if path.is_file()}
    return sorted(path for path in found if not path.name.startswith("._"))


def beside(folder: Path) -> list[Path]:
    """The config and tokenizer files."""
    return listed(folder, *_BESIDE)


def read_checkpoint(folder: Path) -> Checkpoint:
    """Finds the files that `from_pretrained` would read, in its own order of precedence.

    Raises:
        UserError: one is missing, damaged or a Git LFS pointer, or there is an adapter beside the weights.
    """
    if not (folder / "config.json").is_file():
        if (folder / "adapter_config.json").is_file():
            raise UserError(f"{folder} contains a PEFT adapter and no config.json; give its base model")
        raise UserError(f"the model folder {folder} contains no config.json; copy it there")
    if not listed(folder, "tokenizer*", "*.model", "vocab.*"):
        raise UserError(f"the model folder {folder} contains no tokenizer; save it there")
    for path in beside(folder):
        require_content(path)
    config = _json(folder / "config.json", "save the model again")
    if (folder / "adapter_config.json").is_file():
        # transformers would apply it on top of the weights, and no frozen model would be left.
        raise UserError(
            f"{folder} contains an adapter beside the weights (adapter_config.json); merge it into them, or "
            "move it to its own folder"
        )
    weights, index = _weights(folder, config)
    for path in weights:
        require_content(path)
    unread = [path.name for path in listed(folder, "*.safetensors") if path not in weights]
    return Checkpoint(folder, config, weights, index, tuple(unread))


def _weights(folder: Path, config: Mapping[str, object]) -> tuple[tuple[Path, ...], Path | None]:
    """The files with the weights, and the index that names them."""
    stored = listed(folder, "*.safetensors")
    ranks = [path.name for path in stored if _RANKS.match(path.name)]
    if ranks:
        raise UserError(
            f"{folder} contains the weights of separate ranks ({ranks[0]}); save the model again with "
            "save_pretrained"
        )
    named = config.get("transformers_weights")
    names = [_inside(named, folder / "config.json")] if isinstance(named, str) else [SINGLE, INDEX]
    chosen = next((folder / name for name in names if (folder / name).is_file()), None)
    if chosen is None:
        others = ", ".join(path.name for path in stored[:SHOWN])
        only = f", only {others}" if stored else ", nor any other safetensors file"
        raise UserError(
            f"{folder} contains no {' or '.join(names)}{only}; save the model again with save_pretrained"
        )
    if chosen.suffix != ".json":
        return (chosen,), None
    require_content(chosen)
    index = _json(chosen, "copy it again")
    places = index.get("weight_map")
    if not isinstance(places, dict) or not isinstance(index.get("metadata"), dict) or not places:
        raise UserError(f"{chosen} is not a weight index: it needs weight_map and metadata; copy it again")
    shards = sorted({_inside(str(name), chosen) for name in places.values()})
    missing = [name for name in shards if not (folder / name).is_file()]
    if missing:
        raise UserError(
            f"{chosen} lists {counted(len(shards), 'weight file')}, and {len(missing)} of them "
            f"{by_number(len(missing), 'is', 'are')} missing, starting with {missing[0]}; copy the missing "
            "files there"
        )
    return tuple(folder / name for name in shards), chosen


def _inside(name: str, lister: Path) -> str:
    """The name of a file that another one lists, which must be beside it.

    Raises:
        UserError: it leads out of the folder, or no file can have this name.
    """
    if name != PurePosixPath(name).name or "\0" in name or len(os.fsencode(name)) > LONGEST_NAME:
        raise UserError(
            f"{lister} lists the weight file '{name}', which is outside of its folder; copy it again"
        )
    return name


def require_content(path: Path) -> None:
    """Checks that a file is not empty and has been fetched.

    Raises:
        UserError: it is empty, or a Git LFS pointer in place of the file.
    """
    size = path.stat().st_size
    if size == 0:
        raise UserError(f"{path} is empty; copy it again")
    if size < _POINTER:
        with path.open("rb") as file:
            start = file.read(64)
        if start.startswith(b"version ") and b"git-lfs" in start:
            raise UserError(
                f"{path} is a Git LFS pointer, not the file itself; fetch the file with: git lfs pull"
            )


def require_complete(found: LoadingInfo, where: str) -> None:
    """Checks that all weights are present.

    Args:
        found: what `from_pretrained` reports with `output_loading_info`.
        where: whose weights they are, for the error.

    Raises:
        UserError: tensors are missing, which transformers fills with random numbers, or have other shapes.
    """
    missing, other = sorted(found["missing_keys"]), sorted(found["unexpected_keys"])
    if missing:
        has = f", and has {len(other)} with other names ({first(other)})" if other else ""
        raise UserError(
            f"{where} lacks {len(missing)} of the tensors of its architecture ({first(missing)}){has}; "
            "complete the weights or correct config.json, as missing tensors would be random numbers"
        )
    shapes = sorted((name, list(stored), list(wanted)) for name, stored, wanted in found["mismatched_keys"])
    if shapes:
        name, stored, wanted = shapes[0]
        others = len(shapes) - 1
        more = f", and {others} more {by_number(others, 'differs', 'differ')}" if others else ""
        raise UserError(
            f"{where} has {name} with shape {stored} in its weights but {wanted} by its config.json{more}; "
            "correct config.json, or save the model again"
        )


def first(names: list[str]) -> str:
    """The first few names, with an ellipsis if there are more."""
    return ", ".join(names[:SHOWN]) + (", ..." if len(names) > SHOWN else "")


def _json(path: Path, remedy: str) -> dict[str, object]:
    try:
        value = parsed_json(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{path} is damaged: {error}; {remedy}") from None
    if not isinstance(value, dict):
        raise UserError(f"{path} is damaged: it contains no mapping; {remedy}")
    return value
