"""Converts GGUF files to folders of safetensors: slow once, memory-mapped from then on."""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from softprior.assets.catalogue import Sizes
from softprior.assets.checkpoint import first, require_complete, require_content
from softprior.assets.progress import say
from softprior.assets.transformers_private import forget_quantisation, gguf_header
from softprior.errors import UserError

CONVERSION_VERSION = 1
"""Increased whenever `convert_gguf` writes other weights for the same file; fingerprints contain it."""

PROVENANCE = "provenance.json"


def check_gguf(path: Path) -> None:
    """Checks that a GGUF file is complete, as far as its header says.

    Raises:
        UserError: it is truncated, one part of several, lacks blocks, or transformers cannot read it.
    """
    require_content(path)
    try:
        facts, tensors, end = gguf_header(path)
    except (ValueError, KeyError, OverflowError, MemoryError, struct.error) as error:
        raise _unreadable(path, error) from None
    family, parts = facts["general.architecture"], facts.get("split.count", 0)
    if parts > 1:
        raise UserError(
            f"{path} is one of {parts} parts of a model; merge them with llama.cpp's "
            "llama-gguf-split --merge and give the resulting file"
        )
    if end is not None and end > path.stat().st_size:
        raise UserError(
            f"{path} is truncated: it has {path.stat().st_size:,} of {end:,} bytes; copy it again"
        )
    wanted = [f"blk.{block}." for block in range(facts.get(f"{family}.block_count", 0))]
    missing = [start for start in wanted if not any(name.startswith(start) for name in tensors)]
    if missing:
        raise UserError(
            f"{path} lacks {len(missing)} of its {len(wanted)} blocks ({first(missing)}); convert the model "
            "again"
        )


def gguf_sizes(path: Path) -> Sizes:
    """The sizes of the model in a GGUF file, from its header, as far as it states them.

    Args:
        path: a file that `check_gguf` accepts.
    """
    facts, shapes, _ = gguf_header(path)

    def fact(name: str) -> int | None:
        value = facts.get(f"{facts['general.architecture']}.{name}")
        return value if type(value) is int else None  # a list where it differs by block

    hidden, heads = fact("embedding_length"), fact("attention.head_count")
    stated = f"{facts['general.architecture']}.attention.head_count_kv" in facts
    groups, each = fact("attention.head_count_kv") if stated else heads, fact("attention.key_length")
    if each is None and hidden is not None and heads:
        each = hidden // heads
    table = shapes.get("token_embd.weight")
    like_llama = facts["general.architecture"] == "llama" and not fact("expert_count")
    return Sizes(
        # Tables of rotary frequencies are not weights of the model.
        parameters=sum(math.prod(shape) for name, shape in shapes.items() if not name.startswith("rope_")),
        blocks=fact("block_count"),
        hidden=hidden,
        keys=groups * each if groups is not None and each is not None else None,
        positions=fact("context_length"),
        vocabulary=None if table is None else table[0],
        queries=heads * each if like_llama and heads is not None and each is not None else None,
        inner=fact("feed_forward_length") if like_llama else None,
    )


def _unreadable(path: Path, error: Exception) -> UserError:
    reason = str(error).partition("\n")[0] or type(error).__name__
    return UserError(
        f"transformers {version('transformers')} cannot read the GGUF file {path} ({reason}); "
        "use a folder of safetensors instead"
    )


def convert_gguf(path: Path, folder: Path, source: Mapping[str, str]) -> None:
    """Writes a GGUF model, dequantised to float32, and its tokenizer as `from_pretrained` reads them.

    Args:
        path: the GGUF file.
        folder: where config, safetensors, tokenizer and `provenance.json` go.
        source: where the file came from, for `provenance.json`.

    Raises:
        UserError: transformers cannot read the file, or it lacks tensors.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    say(f"converting {path.name} to safetensors, once; this takes about half a minute for 135M parameters")
    where: dict[str, Any] = {"pretrained_model_name_or_path": path.parent, "gguf_file": path.name}
    try:
        # Where its kernels are installed, transformers would leave the weights packed.
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            **where,
            dtype=torch.float32,
            quantization_config=GgufConfig(dequantize=True),
            output_loading_info=True,
        )
        model, found = loaded
        tokenizer = AutoTokenizer.from_pretrained(**where)
    except (ValueError, KeyError, NotImplementedError, OSError, RuntimeError, struct.error) as error:
        raise _unreadable(path, error) from None
    require_complete(found, f"the GGUF file {path}")
    forget_quantisation(model)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    record = {
        **source,
        "conversion": str(CONVERSION_VERSION),
        "transformers": version("transformers"),
        "gguf": version("gguf"),
    }
    (folder / PROVENANCE).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
