"""What softprior uses of transformers' private parts, all of it; checked on transformers 5.23.0.

None of it is promised to stay. `tests/test_private_parts.py` says which part another version has changed.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, NamedTuple


def attention_of(network: Any) -> Any:
    """The attention that a network uses, as `set_attn_implementation` takes it."""
    return network.config._attn_implementation


class GgufHeader(NamedTuple):
    """What a GGUF file says about its model in front of the weights.

    Attributes:
        facts: the metadata.
        shapes: of the tensors by name, as torch has them.
        end: where the last tensor ends, in bytes; None if a type of numbers is not known.
    """

    facts: dict[str, Any]
    shapes: dict[str, tuple[int, ...]]
    end: int | None


def gguf_header(path: Path) -> GgufHeader:
    """The header of a GGUF file; no tensor is read.

    Raises:
        ValueError, KeyError, OverflowError, MemoryError, struct.error: the header is damaged.
    """
    from gguf import GGML_QUANT_SIZES
    from transformers.integrations.gguf import reader

    content = reader._mapped(str(path))
    facts, count, at = reader._read_metadata(content, str(path))
    tensors, at = reader._read_tensor_table(content, count, at)
    aligned = facts.get("general.alignment", 32)  # llama.cpp's default
    if type(aligned) is not int or aligned < 1:
        raise ValueError(f"general.alignment = {aligned!r}")
    start, end = -(-at // aligned) * aligned, 0
    sizes = {int(kind): size for kind, size in GGML_QUANT_SIZES.items()}
    known = all(kind in sizes for _, _, kind, _ in tensors)
    for _, shape, kind, offset in tensors if known else ():
        block, size = sizes[kind]
        end = max(end, start + offset + math.prod(shape) // block * size)
    return GgufHeader(facts, {name: shape for name, shape, _, _ in tensors}, end if known else None)


def forget_quantisation(model: Any) -> None:
    """Lets `save_pretrained` write weights that are plain now; it refuses while a model names a quantiser."""
    model.hf_quantizer = None
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
