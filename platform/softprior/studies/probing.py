"""Which methods of a study the probes of `evaluation.probes` are for."""

from __future__ import annotations

from collections.abc import Sequence

from softprior.errors import UserError
from softprior.inputs.specs import Probe
from softprior.methods import METHODS, Method
from softprior.prompt import Shape
from softprior.training.probes import ALONE, ELSEWHERE, probed_place


def probe_notes(
    probes: Sequence[Probe], methods: Sequence[Method], shape: Shape | None, where: str
) -> list[str]:
    """A sentence about the methods whose prompts are not probed.

    Raises:
        UserError: no method of the study has a prompt that can be.
    """
    if not probes or shape is None:
        return []
    trained = [method for method in methods if method.trained]
    left = [m for m in trained if probed_place(m.places(shape.blocks, shape.stack)) is None]
    names = ", ".join(dict.fromkeys(map(METHODS.name, left)))
    if not trained:
        return ["no method has a trained prompt, so evaluation.probes has no effect"]
    if len(left) == len(trained):
        raise UserError(f"{where}: evaluation.probes: in prompts of {names} {ELSEWHERE}")
    if "removal" in probes and all(method.count() < 2 for method in trained):
        raise UserError(f"{where}: evaluation.probes: {ALONE}, or leave out removal")
    return [f"evaluation.probes leaves out prompts of {names}, where {ELSEWHERE}"] if left else []
