"""A study in a batch job of Slurm: sbatch jobs/slurm/study.sbatch jobs/studies/paper.yaml"""

from __future__ import annotations

import argparse
import os
import secrets
import socket
import subprocess
import sys
from pathlib import Path

from jobs.slurm.allocation import Allocation
from jobs.slurm.node import free_ports
from jobs.slurm.progress import results_of, saved
from jobs.slurm.requeueing import requeue
from jobs.slurm.supervising import KILLED, LIMIT, STOPPED, Signals, running_nodes
from jobs.slurm.waiting import seconds
from jobs.support.exits import FINISHED, status_of
from jobs.support.stopping import SUBMITTED
from softprior.errors import UserError

COMMANDS = ("jobs.study", "jobs.activations")

WAIT = 180
"""Seconds that Ray has to start on all nodes: Python on a busy network folder takes most of them."""


def main(arguments: list[str] | None = None) -> int:
    """Runs the job and returns the exit status of the study."""
    signals = Signals()  # first of all: until then a signal ends this process
    options = _parser().parse_args(arguments)
    return status_of(lambda: _main(options, signals))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="sbatch jobs/slurm/study.sbatch",
        description="Start Ray on the nodes of this Slurm job and run a study there.",
    )
    parser.add_argument(
        "--command", choices=COMMANDS, default=COMMANDS[0], help="what runs (default: jobs.study)"
    )
    parser.add_argument(
        "--wait",
        type=seconds,
        default=WAIT,
        help=f"seconds within which Ray must start on all nodes (default: {WAIT})",
    )
    parser.add_argument("study", type=Path, help="the study file (YAML)")
    parser.add_argument("rest", nargs=argparse.REMAINDER, help="further arguments of the command")
    return parser


def _main(options: argparse.Namespace, signals: Signals) -> int:
    allocation = Allocation.of(os.environ)
    if not options.study.is_file():
        raise UserError(
            f"there is no study file {options.study} in {Path.cwd()}; name one, before other options"
        )
    variables = {name: value for name, value in os.environ.items() if name != "RAY_AUTH_TOKEN_PATH"}
    # The token is made here, for this run of the job, and is written to no file and no command line.
    variables |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    address = f"{_head(options.wait)}:{free_ports(1)[0]}"
    wait = f"--wait={options.wait}"
    _say(f"starting Ray (nodes: {allocation.nodes}, CPUs of each: {allocation.cpus})")
    step = _step(allocation, "jobs.slurm.node", address, wait, f"--machine={socket.gethostname()}")
    with running_nodes(step, variables, signals) as nodes:
        ready = nodes.run(_here("jobs.slurm.ready", address, str(allocation.nodes), wait))
        if signals.asked is not None:
            return _too_early(signals.asked)
        if ready != FINISHED:
            return ready
        results = results_of(options.command, options.study, options.rest)
        before = saved(results)
        command = _here(options.command, str(options.study), *options.rest)
        status = nodes.run(command, **{"RAY_ADDRESS": address, SUBMITTED: allocation.job})
    if signals.asked == LIMIT and status in (STOPPED, KILLED):
        if not saved(results) - before:
            raise UserError(
                "this run has finished no trial and saved no checkpoint, so the next would get no further; "
                "give sbatch a longer --time, or save checkpoints more often (training.checkpoint)"
            )
        if requeue(allocation):
            _say("the time limit is near: back in the queue, to continue from the last checkpoints")
        else:
            _say("Slurm is ending the job, which stays out of the queue; submit it again to continue")
    return status


def _head(patience: int) -> str:
    """The address of this node, the job's first, in the network through which Slurm itself starts steps.

    Raises:
        UserError: no step can be started.
    """
    ask = ["srun", "--overlap", "--nodes=1", "--ntasks=1", "printenv", "SLURM_LAUNCH_NODE_IPADDR"]
    try:
        done = subprocess.run(  # noqa: S603  fixed words
            ask, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=patience
        )
    except FileNotFoundError:
        raise UserError(
            "there is no srun in PATH on the job's first node; add Slurm's bin folder to PATH"
        ) from None
    except subprocess.TimeoutExpired:
        said = f"none began in {patience} seconds"
    else:
        if done.returncode == 0 and done.stdout.strip():
            return done.stdout.split()[-1]
        said = " ".join(done.stderr.split()) or f"status {done.returncode}"
    raise UserError(f"srun cannot start a step of this job ({said}); run {' '.join(ask)} in a job")


def _step(allocation: Allocation, *command: str) -> list[str]:
    """One task on each node that has all of the job's CPUs and GPUs there, beside this script."""
    count = allocation.nodes
    step = ["srun", "--overlap", "--export=ALL", "--ntasks-per-node=1", f"--cpus-per-task={allocation.cpus}"]
    step += [f"--nodes={count}", f"--ntasks={count}", "--wait=0", "--kill-on-bad-exit=1", "--label"]
    return [*step, *_here(*command)]


def _here(*command: str) -> list[str]:
    """A command of the project in this environment, whose lines come at once."""
    return [sys.executable, "-u", "-m", *command]


def _too_early(number: int) -> int:
    """The status of a job that is stopped while Ray starts.

    Raises:
        UserError: its time is over, and it would get no further the next time.
    """
    if number == LIMIT:
        raise UserError("the time limit was reached before the study began; give sbatch a longer --time")
    return 128 + number


def _say(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    sys.exit(main())
