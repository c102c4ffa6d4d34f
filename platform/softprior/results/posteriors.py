"""The posterior file: where a trial's vectors started, went and ended, as safetensors and never pickled.

Tensors are named `initial/PLACE`, `step-000012/PLACE` and `final/PLACE`, PLACE being `Place.name`,
all float32 `[P, H]`. The header is one JSON object under the metadata key `softprior`.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jaxtyping import Float
from safetensors import SafetensorError
from torch import Tensor

from softprior.errors import UserError, a_kind, suggestion
from softprior.inputs.base import parsed_json
from softprior.prompt import Place
from softprior.results.files import finite, write_atomically
from softprior.results.folder import POSTERIORS
from softprior.results.storage import Location, RemotePath, local_copy, location
from softprior.results.tensor_files import open_tensors, save_tensors

FORMAT = 1
"""Version of the layout; a reader refuses a newer one."""

SUFFIX = ".safetensors"
"""Ending of the names of posterior files, by which the prior `posterior` finds them in a folder."""

Vectors = dict[Place, Float[Tensor, "_ _"]]


@dataclass(frozen=True)
class Posterior:
    """A trial's vectors over time.

    Attributes:
        header: trial id and spec, fit record, versions, model fingerprint.
        initial: the sample of the prior.
        final: the trained vectors.
        snapshots: vectors by the number of steps taken, in order.
    """

    header: Mapping[str, Any]
    initial: Vectors
    final: Vectors
    snapshots: dict[int, Vectors]


def save_posterior(path: Location | str, posterior: Posterior) -> None:
    """Writes a posterior file atomically.

    Raises:
        UserError: what is given is no path, or no posterior.
    """
    path = location(path) if isinstance(path, str) else path
    for given, kind in ((path, Path | RemotePath), (posterior, Posterior)):
        if not isinstance(given, kind):
            raise UserError(f"save_posterior takes a path and a posterior, not {a_kind(given)}; give both")
    named = {"initial": posterior.initial, "final": posterior.final}
    named |= {f"step-{step:06d}": vectors for step, vectors in posterior.snapshots.items()}
    # Cloned, because safetensors refuses tensors that share memory.
    tensors = {
        f"{moment}/{place.name}": vectors.detach().float().cpu().contiguous().clone()
        for moment, table in named.items()
        for place, vectors in table.items()
    }
    header = json.dumps(finite({"format": FORMAT, **posterior.header}), sort_keys=True)
    write_atomically(path, lambda temporary: save_tensors(tensors, temporary, {"softprior": header}))


def load_posterior(path: Location | str) -> Posterior:
    """Reads a posterior file.

    Args:
        path: a path, or an address in a bucket.

    Raises:
        UserError: the file is missing, damaged or changed, not a posterior file of a known format, stands in
            a study under the name of another trial, or contains NaN or infinite values, which nothing can
            start from.
    """
    path = location(path) if isinstance(path, str) else path
    try:
        with local_copy(path) as here, open_tensors(here) as file:
            header = parsed_json(file.metadata().get("softprior", "null"))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  not a mapping
    except FileNotFoundError:
        raise UserError(f"there is no posterior file {path}") from None
    except (SafetensorError, ValueError, OSError) as error:
        if isinstance(path, Path) and path.is_dir():
            raise UserError(f"{path} is a folder, not a posterior file; name a file in it") from None
        raise UserError(f"{path} is damaged or not a posterior file: {error}") from None
    if not isinstance(header, dict) or header.get("format") != FORMAT:
        found = header.get("format") if isinstance(header, dict) else "none"
        raise UserError(f"{path} is not a posterior file of format {FORMAT} (found: {found})")
    trial = header.get("trial", path.stem)
    if trial != path.stem and _in_a_study(path):
        raise UserError(
            f"{path} has the vectors of trial {trial}, not of {path.stem}; restore the file, or move it out "
            "of the study, where it may have any name"
        )

    moments: dict[str, Vectors] = {}
    for name, tensor in tensors.items():
        if not bool(tensor.isfinite().all()):
            raise UserError(f"{path} contains NaN or infinite values in {name}; give another file")
        if tensor.ndim != 2 or not tensor.is_floating_point():
            raise UserError(
                f"{path} is not a posterior file: {name} must be a table of floating-point numbers but is "
                f"{str(tensor.dtype).removeprefix('torch.')} of shape {list(tensor.shape)}"
            )
        moment, _, place = name.partition("/")
        try:
            moments.setdefault(moment, {})[Place.parse(place)] = tensor
        except ValueError as error:
            raise UserError(f"{path} is not a posterior file: {error}") from None
    missing = {"initial", "final"} - set(moments)
    if missing:
        raise UserError(
            f"{path} has no {' and no '.join(sorted(missing))} vectors; it is not a posterior file"
        )
    initial, final = moments.pop("initial"), moments.pop("final")
    unknown = [moment for moment in moments if not re.fullmatch(r"step-[0-9]{6,}", moment)]
    if unknown:
        raise UserError(f"{path} is not a posterior file: it has vectors named '{unknown[0]}'")
    snapshots = sorted((int(moment.removeprefix("step-")), moments[moment]) for moment in moments)
    return Posterior(header, initial, final, dict(snapshots))


def _in_a_study(path: Location) -> bool:
    home = path.absolute().parent if isinstance(path, Path) else path.parent
    return home.name == POSTERIORS and (home.parent / "study.json").exists()


def named_posterior(path: Location | str) -> Posterior:
    """`load_posterior` of a file that a user names; where there is none, the error says which there are.

    Raises:
        UserError: as `load_posterior`, or it is a folder.
    """
    path = location(path) if isinstance(path, str) else path
    # os.path, as a name that no file can have is no error there.
    if isinstance(path, Path) and os.path.isdir(path):
        raise UserError(f"{path} is a folder, not a posterior file; {_there(path, '')}")
    if isinstance(path, Path) and not os.path.exists(path):
        begun = [
            one
            for one in path.parent.glob(f"*{SUFFIX}")
            if one.name.startswith(path.name.removesuffix(SUFFIX))
        ]
        hint = f"did you mean {begun[0]}?" if len(begun) == 1 else _there(path.parent, path.name)
        raise UserError(f"there is no posterior file {path}; {hint}")
    return load_posterior(path)


def _there(folder: Path, name: str) -> str:
    """The posterior files in a folder, in that of a study, or in that of several studies."""
    if not os.path.isdir(folder):
        return f"its folder {folder} does not exist"
    patterns = (f"{inside}*{SUFFIX}" for inside in ("", "posteriors/", "*/posteriors/"))
    known = [str(one.relative_to(folder)) for pattern in patterns for one in folder.glob(pattern)]
    return suggestion(name, known) if known else f"there are none in {folder}"
