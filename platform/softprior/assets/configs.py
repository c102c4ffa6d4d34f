"""Errors about a model's config.json that name the key and the value."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from softprior.errors import UserError
from softprior.inputs.base import parsed_json
from softprior.inputs.validation import shown

SIZES = (
    *("vocab_size", "hidden_size", "num_attention_heads", "num_key_value_heads", "num_hidden_layers"),
    *("head_dim", "n_embd", "n_head", "n_layer"),
    *("d_model", "d_kv", "num_heads", "num_layers", "num_decoder_layers"),
)
"""Keys for which transformers accepts 0 and less, then divides by them or builds an empty model."""

BLOCKS = ("num_hidden_layers", "n_layer", "num_layers", "num_decoder_layers")
MOST_BLOCKS = 10_000
"""The keys for the number of blocks, and more than any model has: to build as many would take hours."""

KINDS = {
    "int": "a whole number",
    "float": "a number",
    "str": "a text",
    "bool": "true or false",
    "dict": "a mapping of keys to values",
    "PreTrainedConfig": "a mapping of keys to values",
}
"""Types in the errors of transformers' configs, in plain words; the errors already say `a list`."""


def require_values(folder: Path) -> None:
    """Rejects values that transformers accepts, or fails on without naming the key.

    Raises:
        UserError: a size is below 1, there are too many blocks, or `quantization_config` is not a mapping.
    """
    for path, key, value in _values(_written(folder)):
        if path not in (key, f"text_config.{key}"):
            continue
        if key in SIZES and isinstance(value, int) and not isinstance(value, bool) and value < 1:
            raise unusable(folder, f"{path} = {value}: must be at least 1")
        if key in BLOCKS and isinstance(value, int) and value > MOST_BLOCKS:
            raise unusable(folder, f"{path} = {value}: must be at most {MOST_BLOCKS:,}")
        if key == "quantization_config" and value is not None and not isinstance(value, dict):
            rule = "must be a mapping; remove it if the weights are not quantised"
            raise unusable(folder, f"{path} = {shown(value)}: {rule}")


def unusable(folder: Path, reason: str) -> UserError:
    """The error about a folder's config."""
    return UserError(
        f"{folder / 'config.json'} cannot be used ({reason}); correct it, or choose another model"
    )


def why(folder: Path, error: Exception) -> str:
    """What an error of transformers says about a folder's config, with the key and value concerned."""
    text = line(error)
    field = re.match(r"Validation error for field '(\w+)': ", text)
    if field:
        values = [
            (path, value)
            for path, key, value in _values(_written(folder))
            if key == field[1] and repr(value) in text
        ]
        kinds = dict.fromkeys(re.findall(r"expected (a list|\w+), got", text))
        left_out = {"NoneType", "int"} if "float" in kinds else {"NoneType"}
        wanted = " or ".join(KINDS.get(kind, kind) for kind in kinds if kind not in left_out)
        if values and wanted:
            path, value = values[0]
            return f"{path} = {shown(value)}: must be {wanted}"
    text = re.sub(r"^Class validation error for validator '\w+': \w+: ", "", text)
    text = text.partition(". ")[0].rstrip(".")
    named = [
        f"{path} = {shown(value)}: "
        for path, _, value in _values(_written(folder))
        if isinstance(value, str) and any(f"{mark}{value}{mark}" in text for mark in "'`")
    ]
    return "".join(named[:1]) + text


def line(error: Exception) -> str:
    """The first line of an error's message, joined with the next after a colon; or the error's name."""
    alone = isinstance(error, KeyError) and " " not in str(error)
    given = error.args[0] if isinstance(error, KeyError) and error.args and not alone else error
    lines = [part.strip() for part in str(given).strip().splitlines()] or [type(error).__name__]
    said = lines.pop(0)
    while said.endswith(":") and lines:
        said = f"{said} {lines.pop(0)}"
    return f"{type(error).__name__}: {said}" if alone else said


def _written(folder: Path) -> Mapping[str, object]:
    """The content of config.json; empty if it cannot be read."""
    try:
        found = parsed_json((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _values(config: Mapping[str, object]) -> Iterator[tuple[str, str, object]]:
    """Path, key and value of every entry, and of those one level down, such as a text model's config."""
    for key, value in config.items():
        yield key, key, value
        if isinstance(value, dict):
            for inner, held in value.items():
                yield f"{key}.{inner}", inner, held
