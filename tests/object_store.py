"""An S3 server of a test's own, on loopback."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from urllib.request import Request, urlopen

import pytest
from moto.server import ThreadedMotoServer
from pyarrow.fs import S3FileSystem

from softprior.results import storage

BUCKET = "s3://softprior-bucket"


@contextmanager
def object_store(patch: pytest.MonkeyPatch) -> Iterator[str]:
    """A bucket, and in the environment what opens it; gives its address."""
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        for name, value in {
            "AWS_ENDPOINT_URL": f"http://{host}:{port}",
            "AWS_ACCESS_KEY_ID": "anybody",
            "AWS_SECRET_ACCESS_KEY": "anything",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
        }.items():
            patch.setenv(name, value)
        # Servers of one process share what they hold.
        urlopen(Request(f"http://{host}:{port}/moto-api/reset", method="POST")).close()
        own = S3FileSystem(allow_bucket_creation=True, endpoint_override=f"http://{host}:{port}")
        own.create_dir(BUCKET.removeprefix("s3://"))
        storage._store.cache_clear()
        yield BUCKET
    finally:
        storage._store.cache_clear()
        server.stop()


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A bucket for studies on a cluster of their own."""
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    with object_store(monkeypatch) as found:
        yield found
