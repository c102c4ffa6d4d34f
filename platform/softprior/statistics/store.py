"""The statistics store: what is known of a model's activations, one safetensors file a task and site.

A store is a folder with `TASK/SITE.safetensors`. The tensors of a file are `CLASS/mean`, `CLASS/scatter`
(float64, the moments) and `CLASS/sample` (float32, some of the vectors themselves), CLASS being a token
class such as `all`, `question` or `answer`. The header is one JSON object under the metadata key
`softprior-statistics`: format, model fingerprint, and per class the counts of tokens, documents and sinks.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from softprior.errors import UserError, nearest
from softprior.files import write_atomically
from softprior.statistics.moments import Moments

FORMAT = 1
KEY = "softprior-statistics"


@dataclass(frozen=True)
class SiteStatistics:
    """Activations of one token class at one site on one task.

    Attributes:
        moments: of all tokens that count.
        documents: texts they come from; tokens of one text are not independent.
        sinks: attention sinks and massive tokens that were left out.
        sample: some of the vectors.
    """

    moments: Moments
    documents: int
    sinks: int
    sample: Float[Tensor, "N D"]

    @classmethod
    def of(cls, vectors: Float[Tensor, "N D"], documents: int | None = None) -> SiteStatistics:
        """Statistics of vectors that fit in memory; each its own document unless told otherwise."""
        moments = Moments.empty(vectors.shape[1]).update(vectors)
        return cls(moments, len(vectors) if documents is None else documents, 0, vectors.float())


def save_statistics(
    folder: Path, task: str, site: str, model: str, classes: dict[str, SiteStatistics]
) -> Path:
    """Writes the file of one task and site; returns its path.

    Args:
        model: fingerprint of the model whose activations these are.
        classes: statistics by token class.
    """
    path = site_path(folder, task, site)
    tensors: dict[str, Tensor] = {}
    counts = {}
    for name, value in classes.items():
        tensors |= {
            f"{_safe(name)}/mean": value.moments.mean.clone(),
            f"{name}/scatter": value.moments.scatter.clone(),
            f"{name}/sample": value.sample.contiguous().clone(),
        }
        counts[name] = {
            "tokens": value.moments.count,
            "documents": value.documents,
            "sinks": value.sinks,
        }
    header = json.dumps({"format": FORMAT, "model": model, "classes": counts}, sort_keys=True)
    write_atomically(path, lambda temporary: save_file(tensors, temporary, metadata={KEY: header}))
    return path


def load_statistics(folder: Path, task: str, site: str, tokens: str, model: str | None) -> SiteStatistics:
    """Reads the statistics of a token class at a site.

    Args:
        tokens: the token class.
        model: fingerprint that the statistics must be of; None takes those of any model.

    Raises:
        UserError: there is no such file or class, it is damaged, or it is of another model.
    """
    path = find_statistics(folder, task, site)
    try:
        with safe_open(path, framework="pt") as file:
            header = json.loads((file.metadata() or {})[KEY])
            if header["format"] != FORMAT:
                raise UserError(
                    f"{path} is not a statistics file of format {FORMAT} (found: {header['format']})"
                )
            known = header["classes"]
            if tokens not in known:
                raise UserError(f"{path} has no token class '{tokens}'; {nearest(tokens, list(known))}")
            mean, scatter, sample = (
                file.get_tensor(f"{tokens}/{part}") for part in ("mean", "scatter", "sample")
            )
        if model is not None and header["model"] != model:
            raise UserError(
                f"{path} holds activations of another model ({header['model'][:12]} instead of "
                f"{model[:12]}); make statistics of this one"
            )
        counts = known[tokens]
        moments = Moments(int(counts["tokens"]), mean.to(torch.float64), scatter.to(torch.float64))
        width = len(mean)
        shapes = (tuple(scatter.shape), sample.shape[1:]) == ((width, width), (width,))
        finite = all(bool(part.isfinite().all()) for part in (mean, scatter, sample))
        if moments.count < 2 or len(sample) < 1 or not shapes or not finite:
            raise UserError(
                f"the statistics '{tokens}' in {path} are of {moments.count} tokens and {len(sample)} "
                f"sampled vectors{'' if shapes else ' of other dimensions'}"
                f"{'' if finite else ', not all finite'}; a fit needs two tokens and a sample of finite "
                "vectors, so make them again"
            )
        return SiteStatistics(moments, int(counts["documents"]), int(counts["sinks"]), sample.float())
    except (SafetensorError, ValueError, KeyError, TypeError, OSError) as error:
        raise UserError(f"{path} is damaged or not a statistics file: {error}") from None


def find_statistics(folder: Path, task: str, site: str) -> Path:
    """The file of a task and site.

    Raises:
        UserError: there is none; the sentence names what there is.
    """
    path = site_path(folder, task, site)
    if path.is_file():
        return path
    if not folder.is_dir():
        raise UserError(f"there is no statistics store {folder}; it is a folder of TASK/SITE.safetensors")
    tasks = sorted(p.name for p in folder.iterdir() if p.is_dir())
    if task not in tasks:
        raise UserError(f"the statistics in {folder} have no task '{task}'; {nearest(task, tasks)}")
    sites = sorted(p.stem for p in (folder / task).glob("*.safetensors"))
    raise UserError(f"the statistics of {task} in {folder} have no site '{site}'; {nearest(site, sites)}")


def site_path(folder: Path, task: str, site: str) -> Path:
    """Where the file of a task and site stands."""
    return folder / _safe(task) / f"{_safe(site)}.safetensors"


def _safe(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}", name) or ".." in name:
        raise UserError(
            f"'{name}' is not the name of a task, site or token class: it may have letters, digits, '_', "
            "'-' and '.'"
        )
    return name
