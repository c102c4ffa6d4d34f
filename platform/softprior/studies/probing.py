"""Which methods of a study the probes of `evaluation.probes` are for."""

from __future__ import annotations

from collections.abc import Sequence

from softprior.errors import UserError
from softprior.inputs.specs import Probe
from softprior.methods import METHODS, Method
from softprior.prompt import Shape
from softprior.training.probes import why_skipped


def probe_notes(
    probes: Sequence[Probe], methods: Sequence[Method], shape: Shape | None, where: str
) -> list[str]:
    """Sentences about the methods whose prompts are not probed.

    Raises:
        UserError: no method of the study has a prompt for one of the probes.
    """
    if not probes or shape is None:
        return []
    trained = [method for method in methods if method.trained]
    if not trained:
        return ["no method has a trained prompt, so evaluation.probes has no effect"]
    notes: dict[str, list[str]] = {}
    for probe in dict.fromkeys(probes):
        reasons = [
            why_skipped(probe, method.places(shape.blocks, shape.stack), method.count()) for method in trained
        ]
        left = [(method, reason) for method, reason in zip(trained, reasons, strict=True) if reason]
        if not left:
            continue
        by_reason: dict[str, list[str]] = {}
        for method, reason in left:
            by_reason.setdefault(reason, []).append(METHODS.name(method))
        known = [(", ".join(dict.fromkeys(names)), reason) for reason, names in by_reason.items()]
        if len(left) == len(trained):
            said = "; ".join(f"in prompts of {names} {reason}" for names, reason in known)
            raise UserError(f"{where}: evaluation.probes: {said}, or leave out {probe}")
        for names, reason in known:
            notes.setdefault(f"leaves out prompts of {names}, where {reason}", []).append(probe)
    return [f"evaluation.probes ({', '.join(alike)}) {what}" for what, alike in notes.items()]
