"""The command that draws priors: where its pictures go, and what it refuses."""

from __future__ import annotations

from pathlib import Path

import pytest

from jobs import pictures


@pytest.mark.parametrize("words", [["--model", "tiny"], ["--wide", "0"]])
def test_what_only_radii_use_is_refused_without_them(words: list[str], capsys: pytest.CaptureFixture) -> None:
    assert pictures.main(words) == 2
    said = capsys.readouterr().err
    assert f"{' '.join(words)} has no effect" in said
    assert "add --radii" in said


def test_a_wrong_model_leaves_no_pictures(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    folder = tmp_path / "pictures"
    assert pictures.main(["--radii", "--model", "tinny", "--folder", str(folder)]) == 2
    assert "did you mean 'tiny'" in capsys.readouterr().err
    assert not folder.exists()


def test_pictures_go_to_results_unless_told(capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit):
        pictures.main(["--help"])
    assert "default: results/pictures" in " ".join(capsys.readouterr().out.split())
