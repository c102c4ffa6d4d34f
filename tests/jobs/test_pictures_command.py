"""The command that draws priors: where its pictures go, and what it refuses."""

from __future__ import annotations

import pytest

from jobs import pictures


@pytest.mark.parametrize("words", [["--model", "tiny"], ["--wide", "0"]])
def test_what_only_radii_use_is_refused_without_them(words: list[str], capsys: pytest.CaptureFixture) -> None:
    assert pictures.main(words) == 2
    said = capsys.readouterr().err
    assert f"{' '.join(words)} has no effect" in said
    assert "add --radii" in said


def test_pictures_go_to_results_unless_told(capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit):
        pictures.main(["--help"])
    assert "default: results/pictures" in " ".join(capsys.readouterr().out.split())
