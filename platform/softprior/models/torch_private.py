"""Private parts of PyTorch, checked on torch 2.13.0; the option has the same name in 2.11."""

from __future__ import annotations

from torch._dynamo import config

KINDS = 64
"""Kinds of passes that torch.compile serves with a kernel of their own; beyond them it runs uncompiled."""


def allow_kinds_of_passes() -> None:
    """Raises torch.compile's limit of eight kinds: passes differ by gradient, by strides and so on."""
    config.recompile_limit = KINDS
