"""Checks a model folder without reading its weights: whether it loads, and what it leaves unused."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from softprior.assets.architecture import Architecture, LoadingInfo, architecture
from softprior.assets.cache import ensure
from softprior.assets.checkpoint import Checkpoint, Tensor, first, require_complete
from softprior.assets.configs import line, why
from softprior.assets.fingerprints import combined
from softprior.assets.tokens import EncoderTokenizer, Tokenizer
from softprior.errors import UserError
from softprior.inputs.labels import counted
from softprior.results.files import version_of

if TYPE_CHECKING:
    from transformers import PreTrainedModel

EXAMINATION_VERSION = 1
"""Increased whenever `examine` checks more, so that remembered folders are examined again."""

Part = Literal["tokenizer", "config"]

_FLOATS = ("F64", "F32", "F16", "BF16")


class Examination(NamedTuple):
    """The result of an examination.

    Attributes:
        notes: what the model leaves unused, one sentence each.
        parameters: number of weights.
    """

    notes: tuple[str, ...]
    parameters: int


def examine(checkpoint: Checkpoint) -> Examination:
    """Loads a model from the headers of its files, with transformers' own code, and its tokenizer.

    The result is remembered for as long as nobody writes or replaces the files.

    Raises:
        UserError: tensors are missing or have other shapes than the config says, the weights are quantised,
            the architecture is not supported, or the tokenizer is damaged or not the model's.
    """
    state = combined(
        f"examination {EXAMINATION_VERSION}, transformers {version('transformers')}",
        str(checkpoint.folder),
        *(f"{path.name} {version_of(path)}" for path in checkpoint.identifying()),
    )

    def build(memo: Path) -> None:
        memo.write_text(json.dumps(_examined(checkpoint)), encoding="utf-8")

    notes, parameters = json.loads(ensure(f"examined/{state}", build, shared=False).read_text("utf-8"))
    unread = [f"{name} in {checkpoint.folder} is not read" for name in checkpoint.unread]
    return Examination((*unread, *notes), parameters)


def _examined(checkpoint: Checkpoint) -> Examination:
    folder, tensors = checkpoint.folder, checkpoint.tensors()
    made = architecture(folder)
    try:
        model, found = _outline(made, tensors)
    except (MemoryError, OSError):  # of this moment, which is not to be remembered
        raise
    except Exception as error:  # whatever a family does with its tensors while they are loaded
        _require_plain_weights(checkpoint)
        read_tokenizer(folder)
        note = f"the weights in {folder} can be checked only when they are loaded ({why(folder, error)})"
        return Examination((note,), sum(math.prod(tensor.shape) for tensor in tensors.values()))
    _require_plain_weights(checkpoint)
    require_complete(found, f"the model in {folder}")
    left = sorted(found["unexpected_keys"])
    _require_floats(folder, {name: tensor for name, tensor in tensors.items() if name not in left})
    notes = [_left_over(folder, made, left)] if left else []
    rows = int(model.get_input_embeddings().get_parameter("weight").shape[0])
    notes += _tokenizer_notes(folder, rows)
    return Examination(tuple(notes), sum(weight.numel() for weight in model.parameters()))


def _left_over(folder: Path, made: Architecture, left: list[str]) -> str:
    if made.whole is not None:
        return (
            f"{folder} has a model of the multimodal family '{made.whole}', and only its text model is used, "
            f"without {counted(len(left), 'tensor')} ({first(left)})"
        )
    tensors = counted(len(left), "tensor")
    return f"the weights in {folder} contain {tensors} that the model does not use ({first(left)})"


def _outline(made: Architecture, tensors: Mapping[str, Tensor]) -> tuple[PreTrainedModel, LoadingInfo]:
    """The model as it is loaded, all tensors on the meta device, and what transformers reports on them."""
    import torch

    config = copy.deepcopy(made.config)
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    options = {"device_map": "meta", "ignore_mismatched_sizes": True}
    stored = {name: torch.empty(tensor.shape, device="meta") for name, tensor in tensors.items()}
    with quiet():
        return made._replace(config=config).load(None, state_dict=stored, **options)


@contextmanager
def quiet() -> Iterator[None]:
    """Keeps transformers' own bars and reports from the screen."""
    from logging import CRITICAL

    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity(CRITICAL)
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


def _require_plain_weights(checkpoint: Checkpoint) -> None:
    nested = checkpoint.config.get("text_config")
    for config in (checkpoint.config, nested if isinstance(nested, dict) else {}):
        found = config.get("quantization_config")
        if found:
            method = found.get("quant_method") if isinstance(found, dict) else None
            raise UserError(
                f"the model in {checkpoint.folder} is quantised ({method or 'bitsandbytes'}), which is not "
                "supported; give the unquantised model, or a GGUF file, which is dequantised"
            )


def _require_floats(folder: Path, used: Mapping[str, Tensor]) -> None:
    others = [name for name, tensor in used.items() if tensor.dtype not in _FLOATS]
    quantised = [name for name in others if name.endswith(".weight")]  # masks and indices are not weights
    if quantised:
        raise UserError(
            f"the model in {folder} has {quantised[0]} stored as {used[quantised[0]].dtype}, and quantised "
            "weights are not supported; give the unquantised model"
        )


def _tokenizer_notes(folder: Path, rows: int) -> list[str]:
    """Notes on tokens beyond the embedding table that no text produces.

    Raises:
        UserError: it cannot be read, or texts can produce tokens beyond the table.
    """
    tokenizer = read_tokenizer(folder)
    past = {token: number for token, number in tokenizer.get_vocab().items() if number >= rows}
    added = getattr(tokenizer, "added_tokens_decoder", {})
    # A special token stands in no text but where it is written out, and we place BOS and EOS alone.
    placed = (tokenizer.bos_token_id, tokenizer.eos_token_id)
    loose = [n for n in past.values() if n in placed or n not in added or not added[n].special]
    names = first(sorted(past, key=lambda token: past[token]))
    if loose:
        tokens = (
            f"{counted(len(past), 'token')} beyond the model's embedding table of {rows:,} rows ({names})"
        )
        raise UserError(
            f"the tokenizer in {folder} has {tokens}; give the tokenizer that the model was trained with, or "
            "resize the table"
        )
    if not past:
        return []
    return [
        f"the tokenizer in {folder} has {counted(len(past), 'special token')} beyond the embedding table of "
        f"{rows:,} rows ({names}), which no text may contain"
    ]


def read_tokenizer(folder: Path) -> Tokenizer:
    """A model's tokenizer, as an `EncoderTokenizer` if an encoder reads the inputs.

    Raises:
        UserError: transformers cannot read it.
    """
    tokenizer: Tokenizer = _read(
        "tokenizer", folder, "copy or save it again", folder, trust_remote_code=False
    )
    return EncoderTokenizer(tokenizer) if architecture(folder).config.is_encoder_decoder else tokenizer


def read_gguf(path: Path, part: Part) -> Any:
    """The tokenizer or the config that a GGUF file is converted to.

    Raises:
        UserError: transformers cannot read it.
    """
    return _read(part, path, "use a folder of safetensors instead", path.parent, gguf_file=path.name)


def _read(part: Part, where: Path, remedy: str, folder: Path, **options: object) -> Any:
    from transformers import AutoConfig, AutoTokenizer

    kind = AutoTokenizer if part == "tokenizer" else AutoConfig
    try:
        return kind.from_pretrained(folder, **options)
    except Exception as error:  # of Python's and Rust's readers of several formats
        raise UserError(f"the {part} in {where} cannot be read ({line(error)}); {remedy}") from None
