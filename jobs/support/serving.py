"""Prompts for inference servers: files of texts with a prompt in front, and what a server answers to them."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from softprior.errors import UserError
from softprior.inputs.labels import counted


def embed(options: argparse.Namespace) -> int:
    """Writes a prompt in front of texts."""
    from softprior.exchange.embedded import save_embedded
    from softprior.exchange.embeddings import embed_texts, unknown_task

    made = embed_texts(options.posterior, _texts(options.texts), options.model, scaled=options.scaled)
    paths = save_embedded(options.folder, made)
    print(f"wrote {counted(len(paths), 'file')} to {options.folder}: prompt_embeds, [P + T, H] in float32")
    if name := unknown_task(options.posterior):
        print(f"the task {name} is not installed here, so the texts are as they are, not as it writes them")
    if made[0].placement == "after_bos":
        print("the vectors are behind the first token of each text, as they were trained")
    print(f"serve the model in {made[0].dtype}, as the prompt was trained")
    return 0


def _texts(path: Path) -> list[str]:
    """The texts of a file: its lines, or the JSON strings on the lines of a file that ends with .jsonl.

    Raises:
        UserError: it cannot be read, or a line has no text.
    """
    try:
        # Not `splitlines`, for which a line also ends at characters that may be within a text.
        lines = path.read_text(encoding="utf-8-sig").removesuffix("\n").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read as text in UTF-8 ({error}); correct it") from None
    texts = [_string(line) for line in lines] if path.suffix == ".jsonl" else lines
    for number, text in enumerate(texts, 1):
        if text is None:
            raise UserError(f"{path}: line {number} is not a JSON string; write each text in double quotes")
        if not text.strip():
            raise UserError(f"{path} must have a text on every line; remove empty lines, or add texts")
    return [text for text in texts if text is not None]


def _string(line: str) -> str | None:
    """The text that a line of JSON is; None if it is anything else."""
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, str) else None


def complete(options: argparse.Namespace) -> int:
    """Prints what a server answers to each text."""
    from softprior.exchange.embedded import load_embedded
    from softprior.exchange.serving import VLLM, Server, SGLang

    if options.sglang == bool(options.served):
        raise UserError("give either --served, the model's name on a vLLM server, or --sglang")
    server: Server = SGLang(address=options.server)
    if options.served:
        server = VLLM(address=options.server, model=options.served)
    paths = sorted(options.folder.glob("*.safetensors"))
    if not paths:
        raise UserError(
            f"{options.folder} has no files of prompt embeddings; write them with the command `embed`"
        )
    for path in paths:
        one = load_embedded(path)
        answer = server.complete(one.vectors, options.tokens)
        print(json.dumps({"text": one.text, "answer": answer}, ensure_ascii=False), flush=True)
    return 0
