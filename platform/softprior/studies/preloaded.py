"""All that a trial with a model of its own needs, imported at once: what a worker does as it starts."""

from __future__ import annotations

from importlib import import_module

from softprior.studies.importing import importing

MODULES = ("ray.tune", "softprior.studies.worker", "softprior.models.load", "softprior.training.trial")

with importing():
    for name in MODULES:
        import_module(name)
