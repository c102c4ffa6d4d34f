"""One node of Ray, for as long as its standard input is open: started by jobs.slurm on each node of a job."""

from __future__ import annotations

import argparse
import os
import select
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

from jobs.slurm.allocation import Share
from jobs.slurm.scratch import folder
from jobs.slurm.waiting import seconds
from jobs.support.exits import FAILED, FINISHED, status_of
from softprior.errors import UserError
from softprior.studies import ray_private

LEAVING = 15.0
"""Seconds that Ray has to end: Slurm kills what is left half a minute after it has asked for an end."""

LOOK = 0.5
"""Seconds between two looks at Ray."""

PORTS = (
    *("object-manager-port", "node-manager-port", "dashboard-agent-listen-port", "dashboard-agent-grpc-port"),
    *("runtime-env-agent-port", "metrics-export-port"),
)
"""Options of `ray start` on every node. Most have a fixed default, which two jobs on a node would share."""

PASSING = (ray_private.LATE, "in use", "No node info found for head node")
"""What Ray says of failures that pass: a late start, a taken port, a head that is not all there yet."""

LINES, MOST = 20, 2**20
"""Lines of Ray's own that are printed, and bytes of a log that are kept, when it ends by itself."""


def main(arguments: list[str] | None = None) -> int:
    """Holds the node and returns the exit status: 0 if it was told to end, or is a worker that had joined."""
    parser = argparse.ArgumentParser(prog="python -m jobs.slurm.node")
    parser.add_argument("address", help="HOST:PORT of the head")
    parser.add_argument(
        "--wait", type=seconds, required=True, help="seconds that the head may take to answer"
    )
    parser.add_argument("--machine", required=True, help="name of the machine of the head")
    options = parser.parse_args(arguments)
    return status_of(lambda: _hold(options.address, options.machine, options.wait))


def _hold(address: str, machine: str, patience: int) -> int:
    told: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: told.append(number))
    share, until = Share.of(os.environ), time.monotonic() + patience
    if not share.head:
        require_way(address, machine)
        await_head(address, patience)
    with folder(share, os.environ) as own:
        log = own / "start.log"
        while True:
            status = _run(start_command(share, address, own), own, log, told)
            if status is None:
                return FINISHED
            said = log.read_text(encoding="utf-8", errors="replace")
            # Ray gives itself half a minute to start, and no option changes that. Between the look for a free
            # port and its use, another job can take it.
            failed = any(words in said for words in PASSING)
            if not failed or time.monotonic() >= until:
                break
        joined = any(own.glob("session_*/sockets/raylet*")) and not failed
        _tell_end(share, own, status, said)
    # A failure ends the step on all nodes: they have no use without the head, nor has a job that lacks nodes
    # at its start. A node that is lost later costs its trials, which Ray starts again elsewhere.
    return FINISHED if joined and not share.head else FAILED


def _tell_end(share: Share, own: Path, status: int, said: str) -> None:
    """Prints what Ray has said last, and keeps the logs of processes that it names, as the folder goes."""
    last = "\n".join(said.strip().splitlines()[-LINES:])
    print(f"{last}\nerror: Ray has ended on {socket.gethostname()} with status {status}", file=sys.stderr)
    for log in sorted(own.glob("session_2*/logs/*.[oe][ur][tr]")):
        if log.stem in said:
            with suppress(OSError):  # the lines above are there in any case
                kept = Path(f"softprior-{share.job}-node{share.index}-{log.name}")
                kept.write_bytes(log.read_bytes()[-MOST:])
                print(f"its log is in {kept.absolute()}", file=sys.stderr)


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
    host, _, port = address.rpartition(":")
    names = [*PORTS, "ray-client-server-port"] if share.head else list(PORTS)
    given = dict(zip(names, free_ports(len(names), int(port)), strict=True)) | {
        "min-worker-port": 0,
        "max-worker-port": 0,
    }
    given |= {"num-cpus": share.cpus, "num-gpus": share.gpus}
    given |= {"object-store-memory": share.objects, "memory": max(share.memory - share.objects, 0)}
    head = ["--head", f"--node-ip-address={host}", f"--port={port}", "--include-dashboard=false"]
    role = head if share.head else [f"--address={address}"]
    options = [f"--{name}={value}" for name, value in given.items()]
    start = [sys.executable, "-m", "ray.scripts.scripts", "start", "--block", "--disable-usage-stats"]
    return [*start, *role, *options, f"--temp-dir={own}"]


def environment(own: Path) -> dict[str, str]:
    """Variables of Ray's processes: temporary files in the job's folder, and no other cluster."""
    others = ("RAY_ADDRESS", "RAY_TMPDIR")
    return {name: value for name, value in os.environ.items() if name not in others} | {"TMPDIR": str(own)}


def free_ports(count: int, taken: int | None = None) -> list[int]:
    """Ports that nobody on this machine listens to now, without one that somebody will listen to."""
    sockets = [socket.socket() for _ in range(count + 1)]
    try:
        for one in sockets:
            one.bind(("", 0))
        found = [one.getsockname()[1] for one in sockets]
        return [port for port in found if port != taken][:count]
    finally:
        for one in sockets:
            one.close()


def require_way(address: str, machine: str) -> None:
    """Checks that the head's address is not one by which every machine means itself.

    Raises:
        UserError: it is, and the head is on another machine.
    """
    if address.startswith("127.") and socket.gethostname() != machine:
        raise UserError(
            f"Slurm's address of {machine} is {address.rpartition(':')[0]}, by which {socket.gethostname()} "
            f"reaches only itself; give {machine} its network address in /etc/hosts there"
        )


def await_head(address: str, patience: int) -> None:
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
                    f"{socket.gethostname()} has waited {patience} seconds for Ray on the first node, at "
                    f"{address} ({error.strerror or error}); look for its error, or for a firewall"
                ) from None
            time.sleep(0.5)


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
