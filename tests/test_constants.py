"""Numbers that modules have names for say what they count: read off the source."""

from __future__ import annotations

import ast
from itertools import pairwise
from pathlib import Path

ROOT = Path(__file__).parents[1]
NUMBERS = (ast.Constant, ast.BinOp, ast.UnaryOp, ast.Tuple, ast.operator, ast.unaryop, ast.expr_context)


def is_number(value: ast.expr | None) -> bool:
    """Whether an expression is a number, or numbers, written out."""
    nodes = [] if value is None else list(ast.walk(value))
    constants = [node.value for node in nodes if isinstance(node, ast.Constant)]
    numbers = all(isinstance(one, int | float) and not isinstance(one, bool) for one in constants)
    return bool(constants) and numbers and all(isinstance(node, NUMBERS) for node in nodes)


def is_text(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)


def test_every_number_of_a_module_has_a_docstring_with_its_unit() -> None:
    bare = [
        f"{path.relative_to(ROOT)}:{statement.lineno}"
        for folder in ("platform/softprior", "jobs", "analysis", "benchmarks")
        for path in (ROOT / folder).rglob("*.py")
        for statement, following in pairwise([*ast.parse(path.read_text(encoding="utf-8")).body, ast.Pass()])
        if isinstance(statement, ast.Assign | ast.AnnAssign)
        and is_number(statement.value)
        and not is_text(following)
    ]
    assert not bare
