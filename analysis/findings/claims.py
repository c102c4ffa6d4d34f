"""The claims that trials are judged by, in plain sight and in the order of the output."""

from __future__ import annotations

from analysis.findings import (
    between,
    collapse,
    cut_or_keep,
    forgetting,
    memory,
    near_tokens,
    quality,
    rate,
    regularised,
    routing,
    speed,
    words,
)

JUDGED = tuple(
    module.JUDGED
    for module in (
        memory,
        collapse,
        quality,
        speed,
        between,
        regularised,
        cut_or_keep,
        rate,
        near_tokens,
        forgetting,
        routing,
        words,
    )
)
"""By number."""

CLAIMS = tuple(judged.claim for judged in JUDGED)
