"""Bad command lines: each ends with a sentence and status 2, before anything starts."""

from __future__ import annotations

LONG = "x" * 1_200
"""Longer than any name; argparse itself repeats an unknown option in full."""

LINES: list[tuple[str, list[str]]] = [
    *(
        (f"jobs.{command}", arguments)
        for command in (
            "study",
            "report",
            "compare",
            "exchange",
            "ui",
            "activations",
            "maps",
            "pictures",
            "connectivity",
        )
        for arguments in ([f"--{LONG}"], ["--no-such-option"], ["--results"])
    ),
    *((f"jobs.{command}", []) for command in ("study", "report", "compare", "exchange", "activations")),
    *(
        (f"jobs.{command}", [*arguments, place])
        for command, arguments in (("study", []), ("report", []), ("activations", []))
        for place in (
            "",
            ".",
            "/dev/null",
            "../none",
            LONG,
            "a\0b",
            "\x1b[31mred",
            "<script>",
            "s3://",
            "~nobody/x",
            "caf\udce9",
        )
    ),
    *(
        ("jobs.compare", [place, "prior"])
        for place in (
            "",
            ".",
            "/dev/null",
            "../none",
            LONG,
            "a\0b",
            "\x1b[31mred",
            "s3://bucket/../x",
            "caf\udce9",
        )
    ),
    *(("jobs.ui", ["--results", place]) for place in (".", "/dev/null", LONG, "a\0b", "s3://bucket/x")),
    ("jobs.ui", ["--port", "http"]),
    ("jobs.study", ["none.yaml", "--results", "s3://a/../b", "--dry-run"]),
    ("jobs.study", ["none.yaml", "--code", "none.py"]),
    ("jobs.study", ["none.yaml", "--code", LONG]),
    ("jobs.exchange", ["export"]),
    ("jobs.exchange", ["nonsense"]),
    ("jobs.exchange", ["export", "none.safetensors", "out"]),
    ("jobs.exchange", ["export", LONG, "out"]),
    ("jobs.exchange", ["import", "none", "out.safetensors", "--model", "tiny"]),
    ("jobs.exchange", ["import", "a\0b", "out.safetensors", "--model", "tiny"]),
    ("jobs.exchange", ["import", "none", "out.safetensors", "--model", "tiny", "--task", "x"]),
    ("jobs.exchange", ["complete", ".", "javascript:alert(1)"]),
    ("jobs.exchange", ["complete", ".", "http://localhost:1", "--tokens", "-5"]),
    ("jobs.exchange", ["push", ".", "../../x", "--dry-run"]),
    ("jobs.exchange", ["card", ".", "aaaa", "out"]),
]
"""Modules and arguments."""
