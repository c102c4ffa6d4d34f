"""What the activation job refuses before it starts Ray: one sentence and status 2."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from jobs.activations import WRONG, main
from tests.activations.test_worker import spec


@pytest.mark.parametrize(
    ("changes", "results", "said"),
    [
        ({}, "s3://bucket/results", "--results = 's3://bucket/results' is a bucket, and sums are rewritten"),
        ({"placement": {"hosts": "shared", "ranks": 2}}, "results", "small.yaml: unknown key 'placement'"),
        ({"model": {"id": "tiny", "ranks": 2}}, "results", "small.yaml: unknown key 'model.ranks'"),
    ],
)
def test_what_it_cannot_do_is_said_in_one_sentence(
    changes: dict[str, Any], results: str, said: str, tmp_path: Path, capsys
) -> None:
    file = tmp_path / "small.yaml"
    run = spec().model_dump(mode="json", exclude_defaults=True)
    file.write_text(yaml.safe_dump(run | changes))
    assert main([str(file), "--results", results]) == WRONG
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert said in error
    assert error.count("\n") == 1
