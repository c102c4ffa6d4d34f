"""Adapter folders as PEFT reads and writes them: `adapter_config.json` and `adapter_model.safetensors`."""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from safetensors import SafetensorError
from safetensors.torch import load, save_file
from torch import Tensor

from softprior.errors import UserError
from softprior.exchange.layout import PeftType
from softprior.inputs.labels import counted
from softprior.results.files import write_atomically, write_json
from softprior.results.records import read_header

CONFIG, WEIGHTS, PICKLE = "adapter_config.json", "adapter_model.safetensors", "adapter_model.bin"
TENSOR = "prompt_embeddings"

_TYPES: dict[str, PeftType] = {
    "PROMPT_TUNING": "PROMPT_TUNING",
    "PREFIX_TUNING": "PREFIX_TUNING",
    "P_TUNING": "PROMPT_TUNING",
}
"""What the saved vectors are, by PEFT's type. For P-tuning, and for a prefix with `prefix_projection`, PEFT
saves the output of the network and not the network, so that both are plain prompts by then."""


class Adapter(NamedTuple):
    """An adapter that contains prompt vectors and nothing else.

    Attributes:
        folder: where it is.
        peft_type: what its vectors are.
        config: all of `adapter_config.json`.
        embeddings: `prompt_embeddings`, float32.
        sha256: of `adapter_model.safetensors`.
    """

    folder: Path
    peft_type: PeftType
    config: dict[str, Any]
    embeddings: Float[Tensor, "P _"]
    sha256: str


def check_target(folder: Path) -> None:
    """Checks that nothing will be overwritten.

    Raises:
        UserError: the folder exists and is not empty.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(
            f"{folder} exists and is not an empty folder; choose another, as nothing is overwritten"
        )


def write_adapter(folder: Path, config: dict[str, object], embeddings: Float[Tensor, "P _"]) -> None:
    """Builds an adapter beside its place and renames it, which fails if there are files by then.

    Raises:
        UserError: the folder cannot be written.
    """
    tensors = {TENSOR: embeddings.float().contiguous().clone()}
    part = folder.with_name(f".{folder.name}.{os.getpid()}.part")
    try:
        part.mkdir(parents=True)
        write_json(part / CONFIG, config)
        write_atomically(part / WEIGHTS, lambda path: save_file(tensors, path, metadata={"format": "pt"}))
        os.replace(part, folder)
    except OSError as error:
        why = error.strerror or error
        raise UserError(f"{folder} cannot be written ({why}); choose another folder") from None
    finally:
        shutil.rmtree(part, ignore_errors=True)


def read_adapter(folder: Path) -> Adapter:
    """Reads an adapter.

    Raises:
        UserError: the folder is missing or damaged, or contains anything but the vectors of a prompt.
    """
    if not (folder / CONFIG).is_file():
        raise UserError(f"the adapter folder {folder} contains no {CONFIG}; give the folder that PEFT saved")
    config = read_header(folder / CONFIG, "save the adapter again")
    peft_type = _peft_type(config, folder)
    embeddings, digest = _embeddings(folder)
    # Converters write the few keys that they know of; the tensor has its own shape.
    if config.get("num_virtual_tokens") not in (None, len(embeddings)):
        raise UserError(
            f"{folder} is damaged: its config says num_virtual_tokens = {config.get('num_virtual_tokens')} "
            f"but its weights contain {counted(len(embeddings), 'vector')}; save it again"
        )
    return Adapter(folder, peft_type, config, embeddings, digest)


def _peft_type(config: dict[str, object], folder: Path) -> PeftType:
    peft_type = _TYPES.get(str(config.get("peft_type")))
    if peft_type is None:
        raise UserError(
            f"{folder} is an adapter of type {config.get('peft_type')}, but only {', '.join(_TYPES)} are "
            "supported; choose such an adapter"
        )
    task, stacks = config.get("task_type"), config.get("num_transformer_submodules")
    if task not in (None, "CAUSAL_LM") or stacks not in (None, 1):
        raise UserError(
            f"{folder} has task_type = {task} and num_transformer_submodules = {stacks}, but only adapters "
            "for CAUSAL_LM with 1 are supported; choose such an adapter"
        )
    if config.get("modules_to_save"):
        raise UserError(
            f"{folder} also changes weights of the model (modules_to_save = {config['modules_to_save']}), "
            "but a posterior contains only the vectors of a prompt; train an adapter without them"
        )
    return peft_type


def _embeddings(folder: Path) -> tuple[Float[Tensor, "P _"], str]:
    path = folder / WEIGHTS
    if not path.is_file():
        if (folder / PICKLE).exists():
            raise UserError(
                f"{folder} has {PICKLE}, a pickle, which can run code when it is read; save the adapter "
                "again with safe_serialization=True"
            )
        raise UserError(f"the adapter folder {folder} contains no {WEIGHTS}; give the folder that PEFT saved")
    try:
        content = path.read_bytes()
        tensors = load(content)
    except (SafetensorError, KeyError, ValueError, OSError) as error:
        raise UserError(f"{path} is damaged or not a safetensors file: {error}") from None
    if set(tensors) != {TENSOR}:
        listed = ", ".join(sorted(tensors)[:3]) or "nothing"
        raise UserError(
            f"{path} must contain {TENSOR} and nothing else, but it contains {listed}; choose an adapter of "
            "a prompt"
        )
    embeddings = tensors[TENSOR]
    if embeddings.ndim != 2 or not embeddings.is_floating_point():
        dtype = str(embeddings.dtype).removeprefix("torch.")
        raise UserError(
            f"{TENSOR} in {path} must be a two-dimensional table of floating-point numbers, but it is "
            f"{dtype} of shape {list(embeddings.shape)}; save the adapter again"
        )
    if not bool(embeddings.isfinite().all()):
        raise UserError(f"{path} contains NaN or infinite values; use an earlier checkpoint")
    return embeddings.to(torch.float32), hashlib.sha256(content).hexdigest()
