import os
from pathlib import Path

from benchmarks.asked import Asked

SIDE = """
from benchmarks.asked import answer

print("[2026-11-29] a library that has just been imported", end="")

def found():
    print("[another one]")
    return [1, 2]

answer({"numbers": found})
"""


def test_what_libraries_print_is_no_answer(tmp_path):
    (tmp_path / "side_of_a_test.py").write_text(SIDE)
    side = Asked(["side_of_a_test"], os.environ | {"PYTHONPATH": f"{tmp_path}:{Path(__file__).parents[2]}"})
    try:
        assert side.ask("numbers") == side.ask("numbers") == [1, 2]
    finally:
        side.end()
