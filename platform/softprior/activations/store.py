"""From a site's sums to its file in the statistics store."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from softprior.activations.collector import SINKS
from softprior.activations.state import ClassState, SiteState, Tensors
from softprior.statistics.store import SiteStatistics, Tables, save_statistics
from softprior.statistics.units import PROMPTS
from softprior.tasks.parts import DATA


def write_site(
    folder: Path,
    task: str,
    site: str,
    state: SiteState,
    groups: tuple[str, ...],
    documents: int,
    identity: dict[str, str],
) -> Path:
    """Writes the file of one site; returns its path.

    Args:
        documents: of the whole task.
        identity: fingerprints of model, data and prompt.
    """
    sinks = state.classes[SINKS].moments.count if SINKS in state.classes else 0
    classes = {
        name: _statistics(found, 0 if name == SINKS else sinks) for name, found in state.classes.items()
    }
    means = state.group_sums / state.group_counts[:, None]
    tables = Tables(
        groups={
            name: (int(n), mean) for name, n, mean in zip(groups, state.group_counts, means, strict=True) if n
        },
        sequences=_sorted(state.sequences, "text", "shuffled"),
        paths=_sorted(state.paths, "text", "position"),
    )
    facts: dict[str, object] = {
        "data": identity.get(f"data.{task}"),
        "prompt": identity.get("prompt"),
        "documents": documents,
    }
    facts["sample"] = state.sample
    if task == PROMPTS:
        facts["prompts"] = {name: identity[f"prompts.{name}"] for name in groups}
    data = [name for name in DATA if name in classes]
    merged = {"all": data} if data else {}
    return save_statistics(folder, task, site, identity["model"], classes, merged, tables, facts)


def _sorted(table: Tensors, *by: str) -> Tensors:
    """The rows in an order that does not depend on workers: bootstraps draw rows by their number."""
    if not table:
        return table
    order = torch.from_numpy(np.lexsort([table[name].numpy() for name in reversed(by)]))
    return {name: column[order] for name, column in table.items()}


def _statistics(found: ClassState, sinks: int) -> SiteStatistics:
    columns = found.sample.columns
    vectors = columns.pop("vectors").float()
    return SiteStatistics(
        found.moments.moments,
        found.documents,
        sinks,
        vectors,
        facts=columns | {"key": torch.from_numpy(found.sample.keys)},
        norms=found.norms,
        dimensions=found.moments.dimensions,
    )
