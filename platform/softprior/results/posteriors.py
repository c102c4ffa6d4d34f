"""The posterior file: where a trial's vectors started, went and ended, as safetensors and never pickled.

Tensors are named `initial/PLACE`, `step-000012/PLACE` and `final/PLACE`, PLACE being `Place.name`,
all float32 `[P, H]`. The header is one JSON object under the metadata key `softprior`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jaxtyping import Float
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from softprior.errors import UserError
from softprior.prompt import Place
from softprior.results.files import finite, write_atomically
from softprior.results.storage import Location, local_copy, location

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


def save_posterior(path: Location, posterior: Posterior) -> None:
    """Writes a posterior file atomically."""
    named = {"initial": posterior.initial, "final": posterior.final}
    named |= {f"step-{step:06d}": vectors for step, vectors in posterior.snapshots.items()}
    # Cloned, because safetensors refuses tensors that share memory.
    tensors = {
        f"{moment}/{place.name}": vectors.detach().float().cpu().contiguous().clone()
        for moment, table in named.items()
        for place, vectors in table.items()
    }
    header = json.dumps(finite({"format": FORMAT, **posterior.header}), sort_keys=True)
    write_atomically(path, lambda temporary: save_file(tensors, temporary, metadata={"softprior": header}))


def load_posterior(path: Location | str) -> Posterior:
    """Reads a posterior file.

    Args:
        path: a path, or an address in a bucket.

    Raises:
        UserError: the file is missing or damaged, not a posterior file of a known format, or contains
            NaN or infinite values, which nothing can start from.
    """
    path = location(path) if isinstance(path, str) else path
    try:
        with local_copy(path) as here, safe_open(here, framework="pt") as file:
            header = json.loads((file.metadata() or {}).get("softprior", "null"))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  not a mapping
    except FileNotFoundError:
        raise UserError(f"there is no posterior file {path}{_longer(path)}") from None
    except (SafetensorError, ValueError, OSError) as error:
        raise UserError(f"{path} is damaged or not a posterior file: {error}") from None
    if not isinstance(header, dict) or header.get("format") != FORMAT:
        found = header.get("format") if isinstance(header, dict) else "none"
        raise UserError(f"{path} is not a posterior file of format {FORMAT} (found: {found})")

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


def _longer(path: Location) -> str:
    """A remedy where one file's name begins as a trial's shortened id does; empty elsewhere."""
    if not isinstance(path, Path) or not path.parent.is_dir():
        return ""
    name = path.name.removesuffix(SUFFIX)
    found = [one for one in path.parent.iterdir() if one.name.startswith(name) and one.suffix == SUFFIX]
    return f"; did you mean {found[0]}?" if len(found) == 1 else ""
