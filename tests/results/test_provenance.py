"""Which code made a result: a checkout with and without edits, and records old and new."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
from pathlib import Path
from types import ModuleType

import pytest

from softprior.results import provenance
from softprior.results.provenance import SOURCES, code, named, same_code


def read(package: Path) -> ModuleType:
    """The module as a process has it that starts now."""
    spec = importlib.util.spec_from_file_location("other", package / "results" / "provenance.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def package(tmp_path: Path) -> Path:
    package = tmp_path / "softprior"
    (package / "results").mkdir(parents=True)
    shutil.copy(provenance.__file__, package / "results")
    (package / "prior.py").write_text("SCALE = 1\n")
    (tmp_path / ".gitignore").write_text("__pycache__/\n")
    return package


def git(package: Path, *arguments: str) -> None:
    identity = ["-c", "user.name=a", "-c", "user.email=a@b"]
    subprocess.run(["git", "-C", str(package.parent), *identity, *arguments], check=True, capture_output=True)


def test_edits_are_known_by_their_sources_and_clean_commits_by_their_name(package: Path) -> None:
    outside = read(package)
    assert outside.commit() is None
    assert outside.edits() == (outside.SOURCES,), "nobody knows whether an installed package is edited"
    git(package, "init")
    (package.parent / "notes.md").write_text("another project's")
    git(package, "add", "notes.md")
    git(package, "commit", "-m", "one")
    assert read(package).commit() is None, "another project's checkout says nothing of it"
    git(package, "add", ".")
    git(package, "commit", "-m", "two")
    clean = read(package)
    assert clean.SOURCES == outside.SOURCES
    assert len(clean.commit()) == 40
    assert clean.edits() == ()
    (package.parent / "notes.md").write_text("notes decide no number")
    assert read(package).edits() == ()
    (package / "prior.py").write_text("SCALE = 50\n")
    edited = read(package)
    assert edited.commit() == clean.commit() + "+"
    assert edited.edits() == (edited.SOURCES,) != (clean.SOURCES,)
    assert clean.SOURCES == outside.SOURCES, "a process has the code that it imported"
    assert not edited.same_code(clean.code())
    assert named(edited.code()) == f"commit {clean.commit()[:7]} with edits (sources {edited.SOURCES[:8]})"
    git(package, "checkout", "softprior/prior.py")
    (package / "added.py").write_text("")
    assert read(package).commit().endswith("+")


def test_records_without_sources_go_by_their_commit(package: Path) -> None:
    git(package, "init")
    git(package, "add", ".")
    git(package, "commit", "-m", "one")
    clean = read(package)
    assert clean.same_code({"commit": clean.commit()})
    assert not clean.same_code({"commit": "f" * 40})
    assert not clean.same_code({"commit": clean.commit() + "+"})
    assert not clean.same_code({"commit": None})
    assert not clean.same_code({})


def test_a_trial_that_went_on_from_other_codes_checkpoint_is_of_neither() -> None:
    assert same_code(code())
    assert not same_code({"commit": None, "sources": f"{'0' * 16}+{SOURCES}"})
