"""A Ray head of a test's own: free ports, its own folder and token, ended by its own process ids."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).parents[1]


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens to now."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()


def end(process: subprocess.Popen) -> None:
    """Ends a process and all that it has started."""
    try:
        own = psutil.Process(process.pid)
        family = [own, *own.children(recursive=True)]
    except psutil.NoSuchProcess:
        return
    for member in family:
        try:
            member.kill()
        except psutil.NoSuchProcess:
            continue
    psutil.wait_procs(family, timeout=20)
    process.wait()


class Head:
    """A head that asks for a token.

    Attributes:
        address: for drivers, as RAY_ADDRESS.
        jobs: for `ray job submit`.
        environment: of a client that has the token.
    """

    def __init__(self, cpus: int) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="sp", dir="/tmp"))  # short, as paths of sockets must be
        token = self._folder / "token"
        token.write_text(secrets.token_hex(32))
        names = ("port", "dashboard-port", "ray-client-server-port", "dashboard-agent-listen-port")
        names += ("dashboard-agent-grpc-port", "runtime-env-agent-port", "metrics-export-port")
        ports = dict(zip(names, free_ports(len(names)), strict=True))
        self.address = f"127.0.0.1:{ports['port']}"
        self.jobs = f"http://127.0.0.1:{ports['dashboard-port']}"
        self.environment = {
            **{k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "RAY_ADDRESS")},
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": str(token),
            "RAY_USAGE_STATS_ENABLED": "0",
        }
        command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block"]
        command += [f"--{name}={port}" for name, port in ports.items()]
        command += ["--node-ip-address=127.0.0.1", "--dashboard-host=127.0.0.1", f"--num-cpus={cpus}"]
        command += ["--min-worker-port=0", "--max-worker-port=0", f"--object-store-memory={100 * 2**20}"]
        command += [f"--temp-dir={self._folder}", "--disable-usage-stats"]
        self._log = self._folder / "head.log"
        with self._log.open("w") as log:
            self._process = subprocess.Popen(
                command,
                cwd=self._folder,
                env=self.environment,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            self._wait()
        except BaseException:
            self.close()
            raise

    def _wait(self) -> None:
        while True:
            assert self._process.poll() is None, self._log.read_text()
            try:
                self.ask("GET", "version")
                return
            except OSError:
                time.sleep(0.2)

    def ask(self, method: str, path: str) -> dict[str, Any]:
        """An answer of the jobs' interface, as `ray job` gets it."""
        request = urllib.request.Request(f"{self.jobs}/api/{path}", method=method)
        request.add_header("Authorization", f"Bearer {(self._folder / 'token').read_text()}")
        with urllib.request.urlopen(request) as answer:
            found: dict[str, Any] = json.loads(answer.read())
        return found

    def run(self, *command: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Runs a command of a client in the checkout."""
        return subprocess.run(
            command, cwd=ROOT, env=self.environment | environment, capture_output=True, text=True, timeout=280
        )

    def close(self) -> None:
        """Ends all its processes and removes its folder."""
        end(self._process)
        shutil.rmtree(self._folder, ignore_errors=True)
