"""Adapter folders as PEFT reads and writes them: `adapter_config.json` and `adapter_model.safetensors`."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from softprior.errors import UserError, shortened
from softprior.exchange.layout import PeftType
from softprior.inputs.labels import counted
from softprior.prompt import Stack
from softprior.results.digested import read_header
from softprior.results.files import write_atomically, write_json

CONFIG, WEIGHTS, PICKLE = "adapter_config.json", "adapter_model.safetensors", "adapter_model.bin"
TENSOR = "prompt_embeddings"
COLUMNS, ROWS = "prefix_task_cols", "prefix_task_rows"

TASK_TYPES: dict[Stack, str] = {"decoder": "CAUSAL_LM", "encoder": "SEQ_2_SEQ_LM"}
"""PEFT's name of what a model is for, by the stack that reads its input."""

_MULTITASK = "MULTITASK_PROMPT_TUNING"
_TYPES: dict[str, PeftType] = {
    "PROMPT_TUNING": "PROMPT_TUNING",
    "PREFIX_TUNING": "PREFIX_TUNING",
    "P_TUNING": "PROMPT_TUNING",
    "CPT": "PROMPT_TUNING",
    _MULTITASK: "PROMPT_TUNING",
    "CARTRIDGE": "PREFIX_TUNING",
}
"""What the saved vectors are, by PEFT's type. For P-tuning, CPT, and a prefix with `prefix_projection`, PEFT
saves what the network or the projection outputs, and for a cartridge its frozen and trained vectors together,
so that all of them are plain prompts by then. Of multitask prompt tuning it saves the factors."""


class Adapter(NamedTuple):
    """An adapter that contains prompt vectors and nothing else.

    Attributes:
        folder: where it is.
        peft_type: what its vectors are.
        config: all of `adapter_config.json`.
        embeddings: the vectors, float32: `prompt_embeddings`, or what multitask prompt tuning makes of them
            for one task.
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


def weights_of(embeddings: Float[Tensor, "P _"]) -> bytes:
    """The content of `adapter_model.safetensors`."""
    content: bytes = save({TENSOR: embeddings.float().contiguous().clone()}, metadata={"format": "pt"})
    return content


_NEW = "give a folder that does not exist, inside of one that can be written"
"""It is made beside its place, which may not be a disk of its own."""


@contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """A folder beside its place, which gets its name at the end of the block.

    If the block raises, or if there are files in its place by then, nothing is left.

    Raises:
        UserError: the folder cannot be written.
    """
    part = folder.with_name(f".{folder.name}.{os.getpid()}.part")
    try:
        with writing(folder, _NEW):
            part.mkdir(parents=True)
        yield part
        with writing(folder, _NEW):
            os.replace(part, folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def write_adapter(folder: Path, config: dict[str, object], embeddings: Float[Tensor, "P _"]) -> None:
    """Writes the two files of an adapter into a folder that is there."""
    write_json(folder / CONFIG, config)
    write_atomically(folder / WEIGHTS, lambda path: path.write_bytes(weights_of(embeddings)))


@contextmanager
def writing(folder: Path, remedy: str = "choose another place") -> Iterator[None]:
    """Says in one sentence that something cannot be written.

    Args:
        remedy: what to do then.

    Raises:
        UserError: instead of an `OSError`.
    """
    try:
        yield
    except OSError as error:
        why = error.strerror or error
        raise UserError(f"{folder} cannot be written ({why}); {remedy}") from None


def read_adapter(folder: Path, task: int | None = None) -> Adapter:
    """Reads an adapter.

    Args:
        task: which prompt of a multitask adapter, from 0; needed only if it has several.

    Raises:
        UserError: the folder is missing or damaged, contains anything but the vectors of a prompt, or has
            no such task.
    """
    if not (folder / CONFIG).is_file():
        raise UserError(f"the adapter folder {folder} contains no {CONFIG}; give the folder that PEFT saved")
    config = read_header(folder / CONFIG, "save the adapter again")
    peft_type = _peft_type(config, folder)
    multitask = config["peft_type"] == _MULTITASK
    if task is not None and not multitask:
        raise UserError(f"{folder} is of type {config['peft_type']}, which has one prompt; leave out --task")
    tensors, digest = _tensors(folder, {TENSOR, COLUMNS, ROWS} if multitask else {TENSOR})
    embeddings = tensors[TENSOR]
    # Converters write the few keys that they know of; the tensor has its own shape.
    if config.get("num_virtual_tokens") not in (None, len(embeddings)):
        raise UserError(
            f"{folder} is damaged: its config says num_virtual_tokens = "
            f"{shortened(config['num_virtual_tokens'])} but its weights contain "
            f"{counted(len(embeddings), 'vector')}; save it again"
        )
    if multitask:
        embeddings = _of_task(tensors, task, folder)
    return Adapter(folder, peft_type, config, embeddings, digest)


def _of_task(tensors: Mapping[str, Tensor], task: int | None, folder: Path) -> Float[Tensor, "P H"]:
    """The vectors of one task: the shared ones times the task's low-rank factors, entry by entry."""
    shared, columns, rows = tensors[TENSOR], tensors[COLUMNS], tensors[ROWS]
    fits = columns.shape[:1] == rows.shape[:1] and columns.shape[2:] == rows.shape[1:2]
    if not fits or (columns.shape[1], rows.shape[2]) != shared.shape:
        raise UserError(
            f"{folder} is damaged: its {COLUMNS} of shape {list(columns.shape)} and {ROWS} of shape "
            f"{list(rows.shape)} do not make vectors of shape {list(shared.shape)}; save it again"
        )
    count = len(columns)
    if task is None and count > 1:
        raise UserError(f"{folder} has the prompts of {count} tasks; choose one with --task, from 0")
    if task is not None and not 0 <= task < count:
        raise UserError(f"{folder} has {counted(count, 'task')}, so --task {task} is not one; count from 0")
    return shared * (columns[task or 0] @ rows[task or 0])


def _peft_type(config: dict[str, object], folder: Path) -> PeftType:
    peft_type = _TYPES.get(str(config.get("peft_type")))
    if peft_type is None:
        raise UserError(
            f"{folder} is an adapter of type {shortened(config.get('peft_type'))}, but only "
            f"{', '.join(_TYPES)} are supported; choose such an adapter"
        )
    task, stacks = config.get("task_type"), config.get("num_transformer_submodules")
    # PEFT takes a missing number for 2 where there is an encoder: half of the vectors are the decoder's.
    if task not in (None, *TASK_TYPES.values()) or stacks not in (
        (1,) if task == TASK_TYPES["encoder"] else (None, 1)
    ):
        raise UserError(
            f"{folder} has task_type = {shortened(task)} and num_transformer_submodules = "
            f"{shortened(stacks)}, but only adapters for {' and '.join(TASK_TYPES.values())} with 1 are "
            "supported; choose such an adapter"
        )
    if config.get("modules_to_save"):
        raise UserError(
            f"{folder} also changes weights of the model (modules_to_save = "
            f"{shortened(config['modules_to_save'])}), but a posterior contains only the vectors of a "
            "prompt; train an adapter without them"
        )
    return peft_type


def _tensors(folder: Path, names: set[str]) -> tuple[dict[str, Tensor], str]:
    """The tensors of the weights in float32, which must be those named, and the file's SHA-256."""
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
        raise UserError(
            f"{path} is damaged or not a safetensors file: {error}; save the adapter again"
        ) from None
    if set(tensors) != names:
        listed = ", ".join(sorted(tensors)[:3]) or "nothing"
        raise UserError(
            f"{path} must contain {', '.join(sorted(names))} and nothing else, but it contains {listed}; "
            "choose an adapter of a prompt"
        )
    for name, tensor in tensors.items():
        dimensions = 2 if name == TENSOR else 3
        if tensor.ndim != dimensions or not tensor.is_floating_point():
            dtype = str(tensor.dtype).removeprefix("torch.")
            raise UserError(
                f"{name} in {path} must be a table of floating-point numbers in {dimensions} dimensions, but "
                f"it is {dtype} of shape {list(tensor.shape)}; save the adapter again"
            )
        if not bool(tensor.isfinite().all()):
            raise UserError(f"{path} contains NaN or infinite values; use an earlier checkpoint")
    return {name: t.to(torch.float32) for name, t in tensors.items()}, hashlib.sha256(content).hexdigest()
