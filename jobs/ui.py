"""Opens the MLflow pages on the results: python -m jobs.ui"""

from __future__ import annotations

import argparse
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from types import FrameType

from jobs.support.exits import status_of
from jobs.support.screen import printable
from jobs.support.stopping import stoppable
from softprior.errors import UserError
from softprior.inputs.base import ARTIFACTS, DATABASE
from softprior.results.storage import location
from softprior.tracking.client import default_uri, follow_artifacts, problem_of

SHOWN = 10
"""Studies whose addresses are printed."""

STOPPED = "stopped before the pages opened"

PATIENCE = 5.0
"""Seconds that server processes have to exit by themselves."""

LIGHT = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
"""Keeps MLflow from starting processes that judge answers of language models, which nobody asks for here."""


def main(arguments: list[str] | None = None) -> int:
    """Serves until Ctrl-C, SIGTERM or the terminal's end; returns 2 where there is nothing to show."""
    options = _parser().parse_args(arguments)
    printable()
    with stoppable(STOPPED, STOPPED):  # until the server runs, which `_serve` ends
        return status_of(lambda: _show(options))


def _show(options: argparse.Namespace) -> int:
    results = _folder(options.results)
    _require_free(options.host, options.port)
    print("starting MLflow, which takes seconds, and on a busy machine a minute", flush=True)
    for note in follow_artifacts(results):
        print(f"note: {note}", flush=True)
    command = [sys.executable, "-m", "mlflow", "ui", "--backend-store-uri", default_uri(results)]
    command += ["--default-artifact-root", (results / ARTIFACTS).as_uri()]
    command += ["--host", options.host, "--port", str(options.port), "--workers", "1"]
    _invite(results, f"http://{options.host}:{options.port}")
    return _serve(command, {**LIGHT, **os.environ, "MLFLOW_DISABLE_TELEMETRY": "true"})


def _require_free(host: str, port: int) -> None:
    """Checks that a server can listen there.

    Raises:
        UserError: the address is none of this machine's, or in use.
    """
    if not 0 < port < 65536:
        raise UserError(f"--port must be 1 to 65535, not {port}; give another one")
    try:
        family, *_ = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.create_server((host, port), family=family):
            pass
    except (OSError, UnicodeError, TypeError) as error:
        said = error.strerror if isinstance(error, OSError) else "it is no name of a machine"
        reason = str(said).partition(" (while")[0]
        raise UserError(
            f"nothing can listen on {host}:{port} ({reason}); give another --port or --host"
        ) from None


def _invite(results: Path, server: str) -> None:
    """Says what to open: the page that compares the trials of each study, the latest first."""
    from softprior.tracking.studies import studies

    try:
        found = studies(default_uri(results))
    except Exception as error:  # whatever MLflow raises: its pages may still open, and say more
        print(f"note: the studies' pages are not known: {problem_of(error)}", flush=True)
        found = []
    for study, page in found[:SHOWN]:
        print(f"compare {study}: {server}{page}", flush=True)
    if len(found) > SHOWN:
        print(f"and {len(found) - SHOWN} more, which have 'Compare trials' on their pages", flush=True)
    print(f"all pages: {server} (Ctrl-C stops)", flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m jobs.ui", description="Serve MLflow's pages on the results."
    )
    parser.add_argument("--results", metavar="DIR", default="results", help="default: results")
    parser.add_argument(
        "--host", default="127.0.0.1", help="address to listen on (default: this machine only)"
    )
    parser.add_argument("--port", type=int, default=5000, help="default: 5000")
    return parser


def _folder(text: str) -> Path:
    """The folder of results whose database is to be shown.

    Raises:
        UserError: it has none.
    """
    results = location(text)
    if not isinstance(results, Path):
        raise UserError(
            f"--results = '{text}' is a bucket, which contains no database of runs; open the tracking server "
            "of its studies (tracking.uri) in a browser"
        )
    if not (results / DATABASE).exists():
        raise UserError(f"{results} has no mlflow.db; run a study first, or give its --results folder")
    return results


def _serve(command: list[str], environment: dict[str, str]) -> int:
    """Runs a server until it ends or a signal ends it, with all processes that it has started."""
    heard = 0
    server: subprocess.Popen[bytes] | None = None

    def stop(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
        nonlocal heard
        heard = number
        if server is not None:
            _signal(server.pid, signal.SIGTERM)

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, stop)
    # In a session of its own, or Ctrl-C would reach every server process and each would complain.
    server = subprocess.Popen(command, env=environment, start_new_session=True)  # noqa: S603  our own words
    if heard:
        _signal(server.pid, signal.SIGTERM)
    status = server.wait()
    _end(server.pid)
    if heard:
        return 0 if heard == signal.SIGINT else 128 + heard
    return status


def _end(group: int) -> None:
    """Ends what is left of a process group, by force if it takes longer than `PATIENCE`."""
    deadline = time.monotonic() + PATIENCE
    number = signal.SIGTERM
    while _signal(group, number):
        if time.monotonic() > deadline:
            number = signal.SIGKILL
        time.sleep(0.05)


def _signal(group: int, number: int) -> bool:
    """Sends a signal to a process group; False if nobody is left in it."""
    with suppress(ProcessLookupError):
        os.killpg(group, number)
        return True
    return False


if __name__ == "__main__":
    sys.exit(main())
