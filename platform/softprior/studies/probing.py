"""Which methods of a study the probes of `evaluation.probes` are for."""

from __future__ import annotations

from softprior.errors import UserError
from softprior.inputs.specs import StudySpec
from softprior.methods import METHODS
from softprior.prompt import Shape
from softprior.studies.parts import Parts
from softprior.training.probes import why_skipped


def probe_notes(study: StudySpec, parts: Parts, shape: Shape | None, where: str) -> list[str]:
    """Sentences about the methods whose prompts are not probed.

    Raises:
        UserError: no method of the study has a prompt for one of the probes.
    """
    if not study.evaluation.probes or shape is None:
        return []
    trained = [method for method in parts.methods if method.trained]
    if not trained:
        return ["no method has a trained prompt, so evaluation.probes has no effect"]
    notes: dict[str, list[str]] = {}
    for probe in dict.fromkeys(study.evaluation.probes):
        reasons = [
            why_skipped(probe, method.places(shape.blocks, shape.stack), method.count()) for method in trained
        ]
        left = [(method, reason) for method, reason in zip(trained, reasons, strict=True) if reason]
        if not left:
            continue
        names, reason = ", ".join(dict.fromkeys(METHODS.name(method) for method, _ in left)), left[0][1]
        if len(left) == len(trained):
            said = f"in prompts of {names} {reason}, or leave out {probe}"
            raise UserError(f"{where}: evaluation.probes: {said}")
        notes.setdefault(f"leaves out prompts of {names}, where {reason}", []).append(probe)
    return [f"evaluation.probes ({', '.join(probes)}) {what}" for what, probes in notes.items()]
