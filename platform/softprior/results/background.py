"""A sample of a model's vocabulary in the results folder, so that figures need no model."""

from __future__ import annotations

import json

import numpy as np
import torch
from jaxtyping import Float
from safetensors import SafetensorError
from torch import Tensor

from softprior.errors import UserError
from softprior.inputs.base import parsed_json
from softprior.results.files import write_atomically
from softprior.results.folder import StudyFolder
from softprior.results.storage import local_copy
from softprior.results.tensor_files import open_tensors, save_tensors
from softprior.seeding import torch_generator

KEY = "softprior"
"""The metadata key under which the file says of which model it is."""

TOKENS = 2000
"""Tokens kept."""


def save_background(folder: StudyFolder, fingerprint: str, vocabulary: Float[Tensor, "V H"]) -> None:
    """Keeps a fixed random sample of the vocabulary, once a model, so that figures need no model."""
    path = folder.background(fingerprint)
    if path.exists():
        return
    chosen = torch.randperm(len(vocabulary), generator=torch_generator(0, "figure background"))[:TOKENS]
    header = json.dumps({"model": fingerprint})
    sample = {"vocabulary": vocabulary[chosen].float().cpu()}
    write_atomically(path, lambda temporary: save_tensors(sample, temporary, {KEY: header}))


def load_background(folder: StudyFolder, fingerprint: str) -> Float[np.ndarray, "N H"] | None:
    """What `save_background` kept, or None.

    Raises:
        UserError: the file is damaged, or of another model.
    """
    path = folder.background(fingerprint)
    if not path.exists():
        return None
    try:
        with local_copy(path) as here, open_tensors(here) as file:
            header = parsed_json(file.metadata().get(KEY, "{}"))
            if not isinstance(header, dict):
                raise ValueError("its header is not a JSON object")
            model = header.get("model", fingerprint)
            if model != fingerprint:
                raise UserError(f"{path} is of another model ({str(model)[:12]}); delete it")
            return file.get_tensor("vocabulary").numpy()
    except (SafetensorError, ValueError, OSError) as error:
        raise UserError(
            f"{path} is damaged ({error}); delete it; the next trial that runs keeps it again"
        ) from None
