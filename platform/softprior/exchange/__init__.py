"""Converts prompts to and from PEFT's adapter folders, without PEFT."""

from softprior.exchange.convert import Exchanged, export_adapter, import_adapter

__all__ = ["Exchanged", "export_adapter", "import_adapter"]
