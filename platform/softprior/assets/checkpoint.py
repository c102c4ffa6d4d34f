"""Which files of a model folder `from_pretrained` reads, and what their headers say."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from safetensors import SafetensorError, safe_open

from softprior.errors import UserError
from softprior.labels import by_number, counted

SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"
"""One file with all weights, which comes first, and the index of several."""

SHOWN = 3
"""Tensors that a sentence names."""

_BESIDE = (
    *("config.json", "generation_config.json"),
    *("tokenizer*", "special_tokens_map.json", "added_tokens.json"),
    *("vocab.*", "merges.txt", "*.model", "*.jinja"),
)
"""What decides, beside the weights, what a model computes and how texts become tokens."""

_RANKS = re.compile(r"shard-\d{5}-model-\d{5}-of-\d{5}\.safetensors")
"""Files of ranks, which transformers would read before all others."""

_POINTER = 1024
"""Bytes that a Git LFS pointer stays below."""


class Tensor(NamedTuple):
    """A stored tensor as its file's header has it; `dtype` in the words of safetensors."""

    shape: tuple[int, ...]
    dtype: str


class Checkpoint(NamedTuple):
    """A model folder whose files are all there.

    Attributes:
        config: what config.json says.
        weights: the safetensors files that are read, and no others.
        listing: the index that names them, if there are several.
        unread: names of safetensors files beside them.
    """

    folder: Path
    config: dict[str, Any]
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
            UserError: a file is empty, cut or damaged.
        """
        found: dict[str, Tensor] = {}
        for path in self.weights:
            try:
                with safe_open(path, framework="numpy") as file:
                    for name in file.keys():  # noqa: SIM118  no mapping
                        part = file.get_slice(name)
                        found[name] = Tensor(tuple(part.get_shape()), str(part.get_dtype()))
            except (SafetensorError, OSError, ValueError) as error:
                raise UserError(f"{path} is cut or damaged ({error}); copy it again") from None
        return found


def listed(folder: Path, *patterns: str) -> list[Path]:
    """Files of a folder by pattern, in order, without macOS's `._` files, which hold no part of a model."""
    found = {path for pattern in patterns for path in folder.glob(pattern) if path.is_file()}
    return sorted(path for path in found if not path.name.startswith("._"))


def beside(folder: Path) -> list[Path]:
    """The files of config and tokenizer."""
    return listed(folder, *_BESIDE)


def read_checkpoint(folder: Path) -> Checkpoint:
    """Finds the files that `from_pretrained` would read, in its own order of precedence.

    Raises:
        UserError: one is missing, damaged or a Git LFS pointer, or an adapter stands beside the weights.
    """
    if not (folder / "config.json").is_file():
        adapter = (folder / "adapter_config.json").is_file()
        what = "is an adapter of PEFT; give its base model" if adapter else "does not; copy it there"
        raise UserError(f"a model folder must hold config.json, and {folder} {what}")
    if not listed(folder, "tokenizer*", "*.model", "vocab.*"):
        raise UserError(f"a model folder must hold its tokenizer, and {folder} has none; save it there")
    for path in beside(folder):
        require_content(path)
    config = _json(folder / "config.json", "save the model again")
    if (folder / "adapter_config.json").is_file():
        # transformers would apply it on top of the weights, and no frozen model would be left.
        raise UserError(
            f"an adapter stands beside the weights in {folder} (adapter_config.json); merge it into them, or "
            "move it to a folder of its own"
        )
    weights, index = _weights(folder, config)
    for path in weights:
        require_content(path)
    unread = [path.name for path in listed(folder, "*.safetensors") if path not in weights]
    return Checkpoint(folder, config, weights, index, tuple(unread))


def _weights(folder: Path, config: Mapping[str, Any]) -> tuple[tuple[Path, ...], Path | None]:
    """The files with the weights, and the index that names them."""
    stored = listed(folder, "*.safetensors")
    ranks = [path.name for path in stored if _RANKS.match(path.name)]
    if ranks:
        raise UserError(
            f"{folder} holds the weights of separate ranks ({ranks[0]}); save the model again with "
            "save_pretrained"
        )
    named = config.get("transformers_weights")
    names = [named] if isinstance(named, str) else [SINGLE, INDEX]
    chosen = next((folder / name for name in names if (folder / name).is_file()), None)
    if chosen is None:
        others = f"has {', '.join(path.name for path in stored[:SHOWN])}" if stored else "has no safetensors"
        raise UserError(
            f"weights are read from {' or '.join(names)}, and {folder} {others}; save the model again with "
            "save_pretrained"
        )
    if chosen.suffix != ".json":
        return (chosen,), None
    require_content(chosen)
    index = _json(chosen, "copy it again")
    places = index.get("weight_map")
    if not isinstance(places, dict) or not isinstance(index.get("metadata"), dict) or not places:
        raise UserError(f"{chosen} is not a weight index: it needs weight_map and metadata; copy it again")
    shards = sorted({str(name) for name in places.values()})
    missing = [name for name in shards if not (folder / name).is_file()]
    if missing:
        raise UserError(
            f"{chosen} names {counted(len(shards), 'weight file')}, and {len(missing)} of them "
            f"{by_number(len(missing), 'is', 'are')} missing, {missing[0]} first; copy what is missing there"
        )
    return tuple(folder / name for name in shards), chosen


def require_content(path: Path) -> None:
    """Lets a file pass that is not empty and has been fetched.

    Raises:
        UserError: it is empty, or what Git LFS leaves in place of a large file.
    """
    size = path.stat().st_size
    if size == 0:
        raise UserError(f"{path} is empty; copy it again")
    if size < _POINTER:
        with path.open("rb") as file:
            start = file.read(64)
        if start.startswith(b"version ") and b"git-lfs" in start:
            raise UserError(
                f"{path} is a Git LFS pointer, not the file it stands for; fetch that with: git lfs pull"
            )


def require_complete(found: Mapping[str, Iterable[Any]], where: str) -> None:
    """Lets weights pass that are all there.

    Args:
        found: what `from_pretrained` tells with `output_loading_info`.
        where: whose weights they are, for the sentence.

    Raises:
        UserError: tensors are missing, which transformers fills with random numbers, or have other shapes.
    """
    missing, other = sorted(found["missing_keys"]), sorted(found["unexpected_keys"])
    if missing:
        has = f", and has {len(other)} of other names ({first(other)})" if other else ""
        raise UserError(
            f"{where} lacks {len(missing)} of the tensors of its architecture ({first(missing)}){has}; what "
            "is missing would be random numbers, so complete the weights or correct config.json"
        )
    shapes = sorted((name, list(stored), list(wanted)) for name, stored, wanted in found["mismatched_keys"])
    if shapes:
        name, stored, wanted = shapes[0]
        others = len(shapes) - 1
        more = f", and {others} more {by_number(others, 'differs', 'differ')}" if others else ""
        raise UserError(
            f"{where} has {name} of shape {stored} in its weights and {wanted} by its config.json{more}; "
            "correct config.json, or save the model again"
        )


def first(names: list[str]) -> str:
    """The first few names, and that there are more."""
    return ", ".join(names[:SHOWN]) + (", ..." if len(names) > SHOWN else "")


def _json(path: Path, remedy: str) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{path} is damaged: {error}; {remedy}") from None
    if not isinstance(value, dict):
        raise UserError(f"{path} is damaged: it holds no mapping; {remedy}")
    return value
