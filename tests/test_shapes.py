"""Annotated shapes are true: a part of the suite runs with every call checked against them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from softprior.statistics import geometry
from tests.conftest import SHAPES

ROOT = Path(__file__).parents[1]

PART = [
    "tests/test_shapes.py",
    "tests/statistics/test_geometry.py",
    "tests/results/test_posteriors.py",
    "tests/statistics/test_running_moments.py",
    "tests/statistics/test_points.py",
    "tests/statistics/test_documents.py",
    "tests/statistics/test_held_out.py",
    "tests/models/test_local_contract.py",
    "tests/models/test_encoder_decoder_contract.py",
    "tests/priors/test_prior_contract.py",
]
LONG = (
    "padding",
    "several",
    "process",
    "finite",
    "double",
    "labels",
    "weights",
    "stop",
    "comparison",
    "density",
    "support",
    "tree",
    "one_by_one",
    "agrees",
    "fast_moments",
    "refusals",
    "uniform",
    "cover",
    "bootstrap",
    "one_call",
    "padding_and_order",
    "generation",
    "comparison",
    "refusals",
)
FAMILIES = ("gemma", "qwen3", "gpt2", "mt5", "v1.1")
WORDS = f"not ({' or '.join((*LONG, *FAMILIES))})"


@pytest.mark.faults  # for its time: every call is checked
@pytest.mark.skipif(SHAPES in os.environ, reason="this is the part")
def test_a_part_of_the_suite_passes_with_shapes_checked() -> None:
    options = ["-q", "-x", "-p", "no:cacheprovider", "-p", "no:randomly", "-k", WORDS]
    command = [sys.executable, "-m", "pytest", *options, *PART]
    # In a cache of its own: a fit that is read is not checked.
    own = {name: value for name, value in os.environ.items() if name != "SOFTPRIOR_TESTS_CACHE"}
    done = subprocess.run(
        command, cwd=ROOT, env={**own, SHAPES: "1"}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-4000:]


@pytest.mark.skipif(SHAPES not in os.environ, reason="shapes are not checked here")
def test_shapes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(Exception, match=r"(?i)type-check"):
        geometry.distance_moved(torch.zeros(3, 4), torch.zeros(3, 5))
