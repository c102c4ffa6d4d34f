"""An MLflow server of a test's own, on loopback."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from mlflow import MlflowClient

from jobs.ui import LIGHT
from softprior.tracking.client import default_uri
from tests.databases import empty_database
from tests.ray_head import end, free_ports


class Server:
    """A tracking server with its database and artifacts in a folder.

    Attributes:
        uri: where it answers, while it runs.
    """

    def __init__(self, folder: Path) -> None:
        (port,) = free_ports(1)
        self.uri = f"http://127.0.0.1:{port}"
        empty_database(folder / "database")
        self._command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port)]
        self._command += ["--workers", "1", "--backend-store-uri", default_uri(folder / "database")]
        self._command += ["--artifacts-destination", str(folder / "artifacts")]
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self._process = subprocess.Popen(
            self._command,
            cwd=self._folder,
            env=LIGHT | os.environ | {"MLFLOW_DISABLE_TELEMETRY": "true"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def wait(self) -> None:
        """Returns once it answers."""
        while not self._answers():
            assert self._process is not None
            assert self._process.poll() is None, "the server ended"
            time.sleep(0.2)

    def kill(self) -> None:
        if self._process is not None:
            end(self._process)
            self._process = None

    def _answers(self) -> bool:
        try:
            MlflowClient(self.uri).search_experiments(max_results=1)
        except Exception:
            return False
        return True


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """A server that has been started; it may take seconds until it answers."""
    found = Server(tmp_path)
    found.start()
    try:
        yield found
    finally:
        found.kill()
