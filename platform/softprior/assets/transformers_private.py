"""What softprior uses of transformers' private parts, all of it; checked on transformers 5.23.0.

None of it is promised to stay. `tests/test_private_parts.py` says which part another version has changed.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple


def attention_of(network: Any) -> Any:
    """The attention that a network uses, as `set_attn_implementation` takes it."""
    return network.config._attn_implementation


def gguf_facts(path: Path) -> tuple[dict[str, Any], Any]:
    """The metadata of a GGUF file's header, and its tensors by name.

    Raises:
        ValueError, KeyError, OverflowError, MemoryError, struct.error: the header is damaged.
    """
    from transformers.integrations.gguf.reader import read_gguf_metadata

    facts, tensors = read_gguf_metadata(str(path))
    return facts, tensors


class GgufTensors(NamedTuple):
    """What a GGUF file's header says about its tensors.

    Attributes:
        shapes: by name, as torch has them.
        end: where the last tensor ends, in bytes.
    """

    shapes: dict[str, tuple[int, ...]]
    end: int


def gguf_tensors(path: Path) -> GgufTensors | None:
    """The tensors of a GGUF file, none of which is read; None if a type of numbers is not known."""
    from transformers.integrations.gguf.reader import GgufHeader

    try:
        stored = GgufHeader.from_file(str(path))
    except ValueError:
        return None
    ends = [stored.data_start + part.offset + part.nbytes for part in stored.tensors]
    return GgufTensors({part.name: part.shape for part in stored.tensors}, int(max(ends, default=0)))


def forget_quantisation(model: Any) -> None:
    """Lets `save_pretrained` write weights that are plain now; it refuses while a model names a quantiser."""
    model.hf_quantizer = None
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
