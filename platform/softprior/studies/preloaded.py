"""All that a trial with a model of its own needs, imported at once: what a worker does as it starts.

Importing makes a million objects and no garbage. Looking for some takes a sixth of the time of an import, and
of every later look, so the collector waits meanwhile and leaves these objects alone afterwards.
"""

from __future__ import annotations

import gc
from importlib import import_module

MODULES = ("ray.tune", "softprior.studies.worker", "softprior.models.load", "softprior.training.trial")

gc.disable()
try:
    for name in MODULES:
        import_module(name)
finally:
    gc.freeze()
    gc.enable()
