"""An object store as Google's, of a test's own, on loopback."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from softprior.results import storage
from tests.ray_head import end, free_ports

BUCKET = "gs://softprior-bucket"


@contextmanager
def google_store(patch: pytest.MonkeyPatch, folder: Path) -> Iterator[str]:
    """A bucket, and in the environment what opens it; gives its address.

    The server is a process: pyarrow would wait for a thread of its own for ever.
    """
    (port,) = free_ports(1)
    key = folder / "key.json"
    key.write_text(json.dumps(_account()))
    command = [sys.executable, "-m", "gcp_storage_emulator", "start", "--quiet", "--in-memory"]
    command += ["--host=127.0.0.1", f"--port={port}", f"--default-bucket={BUCKET.removeprefix('gs://')}"]
    server = subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        while not _answers(port):
            assert server.poll() is None, "the server ended"
            time.sleep(0.05)
        patch.setenv("CLOUD_STORAGE_EMULATOR_ENDPOINT", f"http://127.0.0.1:{port}")
        patch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(key))
        storage._store.cache_clear()
        yield BUCKET
    finally:
        storage._store.cache_clear()
        end(server)


def _account() -> dict[str, str]:
    """A service account, which signs what it asks with its own key and asks nobody for a token."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return {
        "type": "service_account",
        "project_id": "anything",
        "client_email": "anybody@example.com",
        "client_id": "1",
        "private_key_id": "1",
        "private_key": key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode(),
        "token_uri": "http://127.0.0.1:1/",
    }


def _answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True
