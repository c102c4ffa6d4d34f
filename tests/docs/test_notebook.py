"""docs/notebook.ipynb runs as it stands there, and prints what stands under its cells."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

DOCS = Path(__file__).parents[2] / "docs"


def test_the_notebook_prints_what_it_shows(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MPLBACKEND", "Agg")
    monkeypatch.chdir(DOCS)
    cells = [
        cell
        for cell in json.loads(Path("notebook.ipynb").read_text(encoding="utf-8"))["cells"]
        if cell["cell_type"] == "code"
    ]
    names: dict[str, Any] = {}
    printed = 0
    for cell in cells:
        exec(compile("".join(cell["source"]), "docs/notebook.ipynb", "exec"), names)
        shown = "".join(
            "".join(out["text"])
            for out in cell["outputs"]
            if out["output_type"] == "stream" and out["name"] == "stdout"
        )
        assert capsys.readouterr().out == shown
        printed += bool(shown)
        assert not any(out["output_type"] == "error" for out in cell["outputs"])
    assert printed == 2
    assert sum("image/png" in out.get("data", {}) for cell in cells for out in cell["outputs"]) == 2
