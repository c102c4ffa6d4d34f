"""Converts prompts to and from PEFT's adapter folders, without PEFT."""

from softprior.exchange.convert import Exchanged, export_adapter, import_adapter
from softprior.exchange.hub import Pushed, push

__all__ = ["Exchanged", "Pushed", "export_adapter", "import_adapter", "push"]
