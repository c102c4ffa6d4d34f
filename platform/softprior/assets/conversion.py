"""GGUF files as folders of safetensors: slow to read once, memory-mapped ever after."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path

from softprior.assets.progress import say
from softprior.errors import UserError

CONVERSION_VERSION = 1
"""Raised whenever `convert_gguf` writes other weights for the same file: fingerprints contain it."""

PROVENANCE = "provenance.json"


def convert_gguf(path: Path, folder: Path, source: Mapping[str, str]) -> None:
    """Writes a GGUF model, dequantised to float32, and its tokenizer as `from_pretrained` reads them.

    Args:
        path: the GGUF file.
        folder: where config, safetensors, tokenizer and `provenance.json` go.
        source: where the file came from, for `provenance.json`.

    Raises:
        UserError: transformers cannot read the file.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    say(f"converting {path.name} to safetensors, once; this takes about half a minute for 135M parameters")
    where = {"pretrained_model_name_or_path": path.parent, "gguf_file": path.name}
    try:
        model = AutoModelForCausalLM.from_pretrained(**where, dtype=torch.float32)
        tokenizer = AutoTokenizer.from_pretrained(**where)
    except (ValueError, KeyError, NotImplementedError, OSError, RuntimeError, struct.error) as error:
        reason = str(error).partition("\n")[0]
        raise UserError(
            f"the GGUF file {path} cannot be read by transformers {version('transformers')} ({reason}); "
            f"use a folder of safetensors instead"
        ) from None
    # The weights are plain float32 now, but save_pretrained refuses as long as these say otherwise.
    model.hf_quantizer = None
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    record = {
        **source,
        "conversion": str(CONVERSION_VERSION),
        "transformers": version("transformers"),
        "gguf": version("gguf"),
    }
    (folder / PROVENANCE).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
