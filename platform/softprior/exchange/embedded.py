"""Files of texts with a soft prompt in front, one file per text."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple, get_args

from jaxtyping import Float
from safetensors import SafetensorError
from torch import Tensor

from softprior.errors import UserError
from softprior.exchange.adapters import check_target, new_folder, writing
from softprior.inputs.base import parsed_json
from softprior.inputs.paths import home_path
from softprior.prompt import Placement
from softprior.results.files import write_atomically
from softprior.results.tensor_files import open_tensors, save_tensors

TENSOR, KEY = "prompt_embeds", "softprior"


class Embedded(NamedTuple):
    """A text with a prompt in front.

    Attributes:
        vectors: what transformers takes as `inputs_embeds`, float32: the prompt's P, then the text's T; or
            the first of the text's in front of the prompt's.
        text: the text.
        tokens: its token ids, those that open it included.
        prompt: P.
        fingerprint, dtype: of the model.
        placement: `front`, or `after_bos` where the prompt is behind the first token.
    """

    vectors: Float[Tensor, "N H"]
    text: str
    tokens: tuple[int, ...]
    prompt: int
    fingerprint: str
    dtype: str
    placement: Placement = "front"


def save_embedded(folder: Path, texts: Sequence[Embedded]) -> list[Path]:
    """Writes `000000.safetensors` and so on, a file per text, in their order; all of them or none.

    Raises:
        UserError: the folder exists and is not empty, or cannot be written.
    """
    folder = home_path(folder).resolve()
    check_target(folder)
    names = [f"{i:06d}.safetensors" for i in range(len(texts))]
    with new_folder(folder) as part:
        for name, one in zip(names, texts, strict=True):
            said = json.dumps({key: value for key, value in one._asdict().items() if key != "vectors"})
            with writing(folder):
                tensors = {TENSOR: one.vectors.contiguous().clone()}
                write_atomically(part / name, partial(save_tensors, tensors, metadata={KEY: said}))
    return [folder / name for name in names]


def load_embedded(path: Path) -> Embedded:
    """Reads a file of `save_embedded`.

    Raises:
        UserError: it is missing, damaged or another file.
    """
    try:
        with open_tensors(path) as file:
            said = parsed_json(file.metadata()[KEY])
            if not isinstance(said, dict):
                raise ValueError("its header is no JSON object")
            if said.get("placement", "front") not in get_args(Placement):
                raise ValueError(f"unknown placement {said['placement']!r}")
            return Embedded(file.get_tensor(TENSOR), **{**said, "tokens": tuple(said["tokens"])})
    except FileNotFoundError:
        raise UserError(f"there is no file {path}; write it with the command `embed`") from None
    except (SafetensorError, KeyError, TypeError, ValueError, OSError) as error:
        raise UserError(
            f"{path} is damaged or not a file of prompt embeddings: {error}; write it again with `embed`"
        ) from None
