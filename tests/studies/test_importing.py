"""Imports without the collector of garbage."""

from __future__ import annotations

import gc
import subprocess
import sys

from softprior.studies.importing import importing


def test_the_collector_waits_for_imports_and_works_after_them() -> None:
    frozen = gc.get_freeze_count()
    assert frozen, "the suite freezes what it imports; a second time would keep its garbage"
    with importing():
        assert not gc.isenabled()
    assert gc.isenabled()
    assert gc.get_freeze_count() <= frozen


def test_a_client_of_a_shared_model_imports_neither_models_of_transformers_nor_the_compiler() -> None:
    """They would take 100 MB of each client, and seconds of its start."""
    script = """
import sys
import torch
from softprior.inputs.specs import Rate, TrainingSpec
from softprior.models.hosted import HostedLM
from softprior.prompt import Place
from softprior.studies.worker import run_trial
from softprior.training import as_planned, environment, extension, own_code, setup, trial
from softprior.training.optimizer import PromptOptimizer
vectors = {Place(0): torch.ones(2, 3)}
PromptOptimizer(vectors, Rate(value=0.1), TrainingSpec(steps=1, batch=1)).step(0, vectors)
found = {"transformers.modeling_utils", "torch._dynamo"} & set(sys.modules)
assert not found, found
"""
    subprocess.run([sys.executable, "-c", script], check=True)
