"""Methods: where prompt vectors enter the model, and the untrained ones. One file each, listed here."""

from softprior.inputs.components import Table
from softprior.methods.base import Method
from softprior.methods.deep import Deep
from softprior.methods.instruction import Instruction
from softprior.methods.none import NoPrompt
from softprior.methods.prefix import Prefix
from softprior.methods.soft import Soft

METHODS: Table[Method] = Table(
    Method,  # type: ignore[type-abstract]
    "methods",
    {
        "none": NoPrompt,
        "instruction": Instruction,
        "soft": Soft,
        "deep": Deep,
        "prefix": Prefix,
    },
)
"""Every method by the name it has in study files."""

__all__ = ["METHODS", "Method"]
