"""Measures the loss along the lines between posteriors: python -m jobs.connectivity results/quickstart"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING

from jobs.support.exits import FINISHED, status_of
from jobs.support.options import add_code
from jobs.support.screen import printable
from softprior.library.results import Results
from softprior.training.threads import limit_threads

if TYPE_CHECKING:
    from analysis.findings.reading import Reading


def main(arguments: list[str] | None = None) -> int:
    """Runs the command; returns 2 where there is nothing to connect."""
    options = _parser().parse_args(arguments)
    printable()
    limit_threads(options.threads)
    return status_of(lambda: _connect(options), options.folder)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m jobs.connectivity",
        description="Measure the loss of the prompts on the straight lines between the posteriors of a "
        "study's first prior and those of the others, and of another seed, on the first test examples. The "
        "model is loaded; nothing is trained. Exploratory: no claim depends on it.",
        epilog="Example: python -m jobs.connectivity results/quickstart --seeds 3",
    )
    parser.add_argument("folder", help="results/NAME of a study, or its address in a bucket")
    parser.add_argument("--seeds", type=int, default=3, help="seeds of each pair (default: 3)")
    parser.add_argument("--points", type=int, default=9, help="prompts on a line, with its ends (default: 9)")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads (default: 1)")
    add_code(parser)
    return parser


def _connect(options: argparse.Namespace) -> int:
    Results(options.folder)  # or refuses it
    # torch and matplotlib; neither --help nor a wrong folder should wait for them.
    from analysis.connecting import measure, require_sizes
    from analysis.connectivity import save_connectivity
    from analysis.figures.connectivity import connected_of, draw_connected
    from analysis.figures.settings import looks_of
    from analysis.figures.style import save
    from analysis.findings.reading import read_studies
    from softprior.inputs.specs import ModelSpec
    from softprior.inputs.validation import validate
    from softprior.library.studies import use_code
    from softprior.models.load import load_local

    require_sizes(options.seeds, options.points)
    for path in options.code:
        use_code(path)
    reading = read_studies([options.folder])
    model = validate(ModelSpec, reading.header["spec"]["model"], "study.json")
    found = measure(reading, load_local(model), print, options.seeds, options.points)
    print(f"losses    {save_connectivity(reading.folder, found)}")
    barriers: dict[str, float] = {}
    target, looks = reading.folder.root / "figures" / "connectivity", looks_of(reading)
    for i, cell in enumerate(reading.study.cells("prior"), start=1):
        known = connected_of(found, reading.study, cell)
        if known is not None:
            print(f"figure    {save(draw_connected(known, looks=looks), target / f'{i}.png')}")
            for path in known.paths:
                name = "/".join(("barrier", *cell.where.split(" · "), path.name))
                barriers[name] = path.barrier()
                print(f"{cell.where}, {path.name}: barrier {path.barrier():.3f} nats")
    _track(reading, barriers)
    print(f"python -m jobs.report {options.folder} adds the figures to the report")
    return FINISHED


def _track(reading: Reading, barriers: Mapping[str, float]) -> None:
    """Sends barriers to the study's run in MLflow, if the study is there."""
    from softprior.errors import hidden, without_mask
    from softprior.inputs.specs import TrackingSpec
    from softprior.inputs.validation import validate
    from softprior.tracking.client import tracking_uri
    from softprior.tracking.studies import add_numbers

    tracking = validate(TrackingSpec, reading.header["spec"].get("tracking", {}), "study.json")
    uri = tracking_uri(tracking, reading.folder.root.parent)
    if uri is None:
        return
    # MLflow takes a password that study.json does not have from the environment.
    problem = add_numbers(without_mask(uri), reading.folder.root.name, barriers)
    if problem:
        print(f"note: could not send the barriers to MLflow at {hidden(uri)}: {problem}")


if __name__ == "__main__":
    sys.exit(main())
