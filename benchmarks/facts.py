"""Facts about the structure of the code: python -m benchmarks.facts [CHECKOUT]

They are about the modules of softprior, jobs and analysis. Imports are statements, wherever in a module, but
for those of `__future__`. `Any` is counted as a word, imports included. A private use is an import of another
library's name or module that begins with an underscore.
"""

from __future__ import annotations

import argparse
import ast
import re
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import NamedTuple

LONG = 60
"""Most lines of a function."""

MANY = 15
"""Most imports of a module."""

OWN = ("softprior", "jobs", "analysis", "benchmarks", "tests")


class Module(NamedTuple):
    """One file.

    Attributes:
        functions: lines of each.
        private: foreign private names that it imports.
    """

    path: Path
    lines: int
    imports: int
    functions: list[int]
    words: int
    private: list[str]


def read(path: Path) -> Module:
    """Counts one file."""
    text = path.read_text(encoding="utf-8")
    nodes = list(ast.walk(ast.parse(text)))
    imports = [node for node in nodes if isinstance(node, ast.Import | ast.ImportFrom)]
    functions = [n for n in nodes if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)]
    return Module(
        path,
        len(text.splitlines()),
        sum(not (isinstance(node, ast.ImportFrom) and node.module == "__future__") for node in imports),
        [(node.end_lineno or node.lineno) - node.lineno + 1 for node in functions],
        len(re.findall(r"\bAny\b", text)),
        [name for node in imports for name in imported(node) if private(name)],
    )


def imported(node: ast.Import | ast.ImportFrom) -> Iterator[str]:
    """The dotted names of an import."""
    base = f"{node.module}." if isinstance(node, ast.ImportFrom) else ""
    yield from (f"{base}{alias.name}" for alias in node.names)


def private(name: str) -> bool:
    """Whether a name is one of another library's own parts."""
    words = name.split(".")
    hidden = any(word.startswith("_") and not word.startswith("__") for word in words)
    return hidden and words[0] not in OWN


def main() -> None:
    """Prints a line per fact."""
    about = (__doc__ or "").splitlines()[0]
    parser = argparse.ArgumentParser(prog="python -m benchmarks.facts", description=about)
    parser.add_argument("checkout", nargs="?", type=Path, default=Path(__file__).parents[1])
    root = parser.parse_args().checkout
    folders = (root / "platform" / "softprior", root / "jobs", root / "analysis")
    modules = [read(path) for folder in folders for path in sorted(folder.rglob("*.py"))]
    lines = [module.lines for module in modules]
    largest = max(modules, key=lambda module: module.lines)
    elsewhere = [m for m in modules if m.private and not m.path.stem.endswith("_private")]
    print(f"modules {len(modules)}")
    print(f"lines of a module: median {median(lines):g}, largest {largest.lines} ({largest.path.name})")
    print(f"functions of more than {LONG} lines {sum(n > LONG for m in modules for n in m.functions)}")
    print(f"modules with more than {MANY} imports {sum(m.imports > MANY for m in modules)}")
    print(f"Any per 1,000 lines {1000 * sum(m.words for m in modules) / sum(lines):.1f}")
    print(f"private names imported {sum(len(m.private) for m in modules)}, elsewhere than in *_private.py:")
    print("\n".join(f"  {m.path.relative_to(root)}: {', '.join(m.private)}" for m in elsewhere) or "  none")


if __name__ == "__main__":
    main()
