"""Whether a trial on this machine is the one that was planned: its model, its task's data and its files."""

from __future__ import annotations

from softprior.errors import UserError
from softprior.training.corrections import ModelFacts
from softprior.training.identity import found_files
from softprior.training.setup import Setup


def require_same_losses(setup: Setup) -> None:
    """Checks what the losses of a given prompt depend on: the model and the task's data.

    Raises:
        UserError: one of them is another here, or has changed since.
    """
    spec = setup.spec
    _require_same("the model", setup.tokenizer_fingerprint, spec.model_fingerprint)
    known = ModelFacts.of(setup.tokenizer, setup.host.info())
    corrections = known.corrections(setup.method, setup.task)
    _require_same("what is known of the model", ", ".join(corrections), ", ".join(spec.corrections))
    _require_same("the task's data", setup.task.fingerprint(), spec.data_fingerprint)


def require_as_planned(setup: Setup) -> None:
    """Checks all that a trial's id stands for, the files of its prior too.

    Raises:
        UserError: something is another thing here, or has changed since.
    """
    require_same_losses(setup)
    spec = setup.spec
    _require_same("a file of the prior", found_files(spec) or "", spec.prior_fingerprint or "")


def _require_same(what: str, found: str, planned: str) -> None:
    if found != planned:
        raise UserError(
            f"{what} changed after the study was planned ({found[:12]} instead of {planned[:12]}), or "
            "this process has other package versions; run the study again"
        )
