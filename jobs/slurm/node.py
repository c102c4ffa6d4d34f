"""One node of Ray, for as long as its standard input is open: started by jobs.slurm on each node of a job."""

from __future__ import annotations

import argparse
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from jobs.slurm.allocation import Share
from jobs.support.exits import FAILED, FINISHED, status_of
from softprior.errors import UserError
from softprior.studies import ray_private

LONGEST = 42
"""Characters of Ray's folder: with `/session_DATE_TIME_PID/sockets/plasma_store`, 107 are a socket's most."""

LEAVING = 15.0
"""Seconds that Ray has to end: Slurm kills what is left half a minute after it has asked for an end."""

LOOK = 0.5
"""Seconds between two looks at Ray."""

PORTS = (
    *("object-manager-port", "node-manager-port", "dashboard-agent-listen-port", "dashboard-agent-grpc-port"),
    *("runtime-env-agent-port", "metrics-export-port"),
)
"""Options of `ray start` on every node. Most have a fixed default, which two jobs on a node would share."""


def main(arguments: list[str] | None = None) -> int:
    """Holds the node and returns the exit status: 0 if it was told to end."""
    parser = argparse.ArgumentParser(prog="python -m jobs.slurm.node")
    parser.add_argument("address", help="HOST:PORT of the head")
    parser.add_argument("--wait", type=float, required=True, help="seconds that the head has to answer")
    options = parser.parse_args(arguments)
    return status_of(lambda: _hold(options.address, options.wait))


def _hold(address: str, patience: float) -> int:
    told: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: told.append(number))
    share, until = Share.of(os.environ), time.monotonic() + patience
    if not share.head:
        await_head(address, patience)
    with folder(share, os.environ) as own:
        log = own / "start.log"
        while True:
            status = _run(start_command(share, address, own), own, log, told)
            if status is None:
                return FINISHED
            said = log.read_text(encoding="utf-8", errors="replace")
            # Ray gives itself half a minute to start, and no option changes that.
            if ray_private.LATE not in said or time.monotonic() >= until:
                break
        joined = any(own.glob("session_*/sockets/raylet*")) and ray_private.LATE not in said
    last = said.strip().rpartition("\n")[2]
    print(f"error: Ray has ended on {socket.gethostname()} with status {status}: {last}", file=sys.stderr)
    # A failure ends the step on all nodes: they have no use without the head, nor has a job that lacks nodes
    # at its start. A node that is lost later costs its trials, which Ray starts again elsewhere.
    return FINISHED if joined and not share.head else FAILED


def _run(command: list[str], own: Path, log: Path, told: list[int]) -> int | None:
    """Runs Ray until it ends, and returns its status; None if it was told to end."""
    with log.open("wb") as output:
        ray = subprocess.Popen(  # noqa: S603  this interpreter
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, env=environment(own)
        )
    while ray.poll() is None and not told:
        if _closed(sys.stdin.fileno(), LOOK):
            _end(ray)
            return None
    if told:
        _end(ray)  # Slurm sends its signals to all processes, so it knows
        return None
    return ray.returncode


def start_command(share: Share, address: str, own: Path) -> list[str]:
    """`ray start` for this node, with the resources of the job and ports that nobody listens to."""
    _, _, port = address.rpartition(":")
    names = [*PORTS, "ray-client-server-port"] if share.head else list(PORTS)
    given = dict(zip(names, free_ports(len(names)), strict=True)) | {
        "min-worker-port": 0,
        "max-worker-port": 0,
    }
    given |= {"num-cpus": share.cpus, "num-gpus": share.gpus}
    given |= {"object-store-memory": share.objects, "memory": max(share.memory - share.objects, 0)}
    head = ["--head", f"--port={port}", "--include-dashboard=false"]
    role = head if share.head else [f"--address={address}"]
    options = [f"--{name}={value}" for name, value in given.items()]
    start = [sys.executable, "-m", "ray.scripts.scripts", "start", "--block", "--disable-usage-stats"]
    return [*start, *role, *options, f"--temp-dir={own}"]


def environment(own: Path) -> dict[str, str]:
    """Of Ray's processes: temporary files of trials go with the job's folder, and no other cluster counts."""
    others = ("RAY_ADDRESS", "RAY_TMPDIR")
    return {name: value for name, value in os.environ.items() if name not in others} | {"TMPDIR": str(own)}


def free_ports(count: int) -> list[int]:
    """Ports that nobody on this machine listens to now."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("", 0))
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()


def await_head(address: str, patience: float) -> None:
    """Waits until somebody listens at the head's address.

    Raises:
        UserError: nobody does in time.
    """
    host, _, port = address.rpartition(":")
    until = time.monotonic() + patience
    while True:
        try:
            socket.create_connection((host, int(port)), timeout=5).close()
            return
        except OSError as error:
            if time.monotonic() >= until:
                raise UserError(
                    f"{socket.gethostname()} has waited {patience:g} seconds for Ray on the first node, at "
                    f"{address} ({error.strerror or error}); look for its error, or a firewall between nodes"
                ) from None
            time.sleep(0.5)


@contextmanager
def folder(share: Share, variables: Mapping[str, str]) -> Iterator[Path]:
    """A folder of the job's own on this node's disk: below TMPDIR, or below /tmp where that is too long.

    It goes at the end. One that a killed run of the same job has left goes at the beginning.
    """
    prefix = f"sp-{share.job}-{share.index}-"
    base = Path(variables.get("TMPDIR") or "/tmp")  # noqa: S108  folders in it are made for this user alone
    room = len(str(base)) + 1 + len(prefix) + 8 <= LONGEST  # 8: what tempfile adds
    if not (room and base.is_dir() and os.access(base, os.W_OK)):
        base = Path("/tmp")  # noqa: S108
    for left in base.glob(f"{prefix}*"):
        if left.lstat().st_uid == os.getuid():
            shutil.rmtree(left, ignore_errors=True)
    own = Path(tempfile.mkdtemp(prefix=prefix, dir=base))
    try:
        yield own
    finally:
        shutil.rmtree(own, ignore_errors=True)


def _closed(stream: int, seconds: float) -> bool:
    """Whether a stream ends within that time; what comes from it is dropped."""
    ready, _, _ = select.select([stream], [], [], seconds)
    return bool(ready) and not os.read(stream, 4096)


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(LEAVING)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


if __name__ == "__main__":
    sys.exit(main())
