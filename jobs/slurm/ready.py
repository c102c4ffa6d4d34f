"""Waits until Ray is on all nodes of a job, in a process of its own: Ray changes how signals are handled."""

from __future__ import annotations

import argparse
import sys

from jobs.slurm.waiting import seconds
from jobs.support.exits import FINISHED, status_of
from softprior.studies.nodes import await_nodes


def main(arguments: list[str] | None = None) -> int:
    """Waits and returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m jobs.slurm.ready")
    parser.add_argument("address", help="HOST:PORT of the head")
    parser.add_argument("nodes", type=int, help="number of nodes that must be there")
    parser.add_argument("--wait", type=seconds, required=True, help="seconds until then")
    options = parser.parse_args(arguments)

    def wait() -> int:
        await_nodes(options.address, options.nodes, options.wait)
        return FINISHED

    return status_of(wait)


if __name__ == "__main__":
    sys.exit(main())
