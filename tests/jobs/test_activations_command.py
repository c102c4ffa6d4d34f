"""What the activation job says before it starts Ray: what it refuses, in one sentence, and what it costs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from jobs.activations import main
from jobs.support.exits import FINISHED, WRONG
from softprior.activations.describe import left_out
from tests.activations.test_worker import spec


@pytest.mark.parametrize(
    ("changes", "results", "said"),
    [
        ({}, "s3://bucket/results", "results in s3://bucket/results need a tracking server"),
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


def test_a_dry_run_says_what_findings_take(tmp_path: Path, capsys) -> None:
    file = tmp_path / "small.yaml"
    (tmp_path / "lines.txt").write_text("A line of text.\n" * 9)
    files = [{"name": name, "path": str(tmp_path / "lines.txt")} for name in ("one", "two")]
    run = spec(files=files, sites="all").model_dump(mode="json", exclude_defaults=True)
    file.write_text(yaml.safe_dump(run))
    assert main([str(file), "--dry-run", "--results", str(tmp_path)]) == FINISHED
    # Three tasks and their three pairs at six sites, 1.9 seconds each as measured.
    assert "  about 1 minute more for findings and figures" in capsys.readouterr().out
    assert main([str(file), "--dry-run", 'sites=["key.2"]']) == FINISHED
    assert "findings" not in capsys.readouterr().out


def test_a_dry_run_says_what_a_vae_takes(tmp_path: Path, capsys) -> None:
    """Unless the sample holds as many vectors as it takes, or as there are."""
    file = tmp_path / "small.yaml"
    (tmp_path / "lines.txt").write_text("A line of text.\n" * 400)
    files = [{"name": "one", "path": str(tmp_path / "lines.txt")}]
    run = spec(files=files, tasks=[]).model_dump(mode="json", exclude_defaults=True)
    file.write_text(yaml.safe_dump(run))
    assert main([str(file), "--dry-run", "sample=1599"]) == FINISHED
    said = "  note: a vae is trained on the sample and takes up to 20,000 vectors, but sample = 1,599 keeps"
    assert said in capsys.readouterr().out
    for enough in (20_000, 1600):
        assert main([str(file), "--dry-run", f"sample={enough}"]) == FINISHED
        assert "vae" not in capsys.readouterr().out


def test_what_was_left_out_is_said_as_what_it_is() -> None:
    """A row, rows, and the rest of a file, which is no row."""
    one = {"documents": 40, "skipped": 1, "malformed": ["a.jsonl, line 3: no 'text'"], "lost": []}
    two = {"documents": 4000, "skipped": 2, "malformed": ["b.jsonl, line 1: no 'text'"]}  # as once written
    cut = {"documents": 9, "skipped": 0, "malformed": [], "lost": ["c.jsonl.gz, line 10: it is damaged"]}
    assert left_out({"one": one, "two": two, "cut": cut}) == [
        "one: 1 of 41 rows that are not empty was left out, the first a.jsonl, line 3: no 'text'",
        "two: 2 of 4,002 rows that are not empty were left out, the first b.jsonl, line 1: no 'text'",
        "cut: c.jsonl.gz, line 10: it is damaged; mend it or fetch it again",
    ]


def test_a_dry_run_says_what_it_would_run_on(tmp_path: Path, capsys, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "small.yaml"
    file.write_text(yaml.safe_dump(spec().model_dump(mode="json", exclude_defaults=True)))
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    assert main([str(file), "--dry-run", "resources.cpus=4096"]) == FINISHED
    assert (
        "this machine has fewer CPUs or GPUs than a worker needs; lower resources.cpus"
        in capsys.readouterr().out
    )
    assert main([str(file), "resources.cpus=4096", "--results", str(tmp_path / "none")]) == WRONG
    assert "asks for 4,096 CPUs, but this machine has" in capsys.readouterr().err
    assert not (tmp_path / "none").exists()
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "plan.json").write_text('{"key": "another"}')
    assert main([str(file), "--dry-run", "name=one", "--results", str(tmp_path)]) == WRONG
    assert "contains another run (with other settings, data or weights)" in capsys.readouterr().err
    (tmp_path / "one" / "plan.json").write_text("{")
    assert main([str(file), "--dry-run", "name=one", "--results", str(tmp_path)]) == WRONG
    assert "plan.json is damaged: it is not valid JSON" in capsys.readouterr().err
    (tmp_path / "lines.txt").write_text("A line of text.\n")
    long = f"files=[{{name: long, path: {tmp_path / 'lines.txt'}, length: 1025}}]"
    assert main([str(file), "--dry-run", long]) == WRONG
    assert "texts of long have up to 1,025 tokens, but tiny has 1,024 positions" in capsys.readouterr().err
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    assert main([str(file), "--dry-run"]) == WRONG
    assert "no Ray cluster answers at RAY_ADDRESS=127.0.0.1:1" in capsys.readouterr().err
