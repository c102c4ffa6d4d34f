"""Fails on known holes in requirements.lock, as pip-audit finds them: python .ci/audit.py PIP_AUDIT

Where no advisory service answers, nothing is known: that is said, and the status is 0: a registry that serves
no advisories is no fault of the code, and a check that fails for it would soon be switched off.
"""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import UTC, date, datetime
from pathlib import Path

LOCK = Path(__file__).parents[1] / "requirements.lock"

IGNORED = Path(__file__).with_name("ignored-advisories.txt")
"""Lines of an advisory's id, the last day on which it is ignored, and why."""


def main(program: str, lock: Path = LOCK, ignored: Path = IGNORED, today: date | None = None) -> int:
    """Prints what is known, and returns 1 if a hole is known that is not ignored."""
    dates = _ignored(ignored)
    late = sorted(name for name, until in dates.items() if until < (today or datetime.now(UTC).date()))
    command = [
        program,
        "-r",
        str(lock),
        "--no-deps",
        "--disable-pip",
        "-f",
        "json",
        "--progress-spinner",
        "off",
    ]
    asked = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603  the program given
    try:
        packages = json.loads(asked.stdout)["dependencies"]
    except (ValueError, KeyError, TypeError):
        last = (asked.stderr.strip().splitlines() or ["it said nothing"])[-1]
        print(f"audit: no advisory service answered, so nothing is known of {lock.name} ({last[:200]})")
        return 0
    unknown = [found for found in packages if "skip_reason" in found]
    holes = [
        (found["name"], found["version"], hole)
        for found in packages
        for hole in found.get("vulns", [])
        if not {hole["id"], *hole.get("aliases", [])} & (set(dates) - set(late))
    ]
    for name, version, hole in holes:
        fixed = ", ".join(hole.get("fix_versions", [])) or "no version yet"
        print(f"audit: {name} {version} has the known hole {hole['id']}; fixed in: {fixed}")
    for name in late:
        print(f"audit: {ignored.name} ignores {name} until {dates[name]}, which has passed; look again")
    known = len(packages) - len(unknown)
    print(f"audit: {len(holes)} known holes in {known} packages", end="")
    print(f"; no advisory service answered about {len(unknown)} others" if unknown else "")
    return 1 if holes or late else 0


def _ignored(path: Path) -> dict[str, date]:
    lines = [line for line in path.read_text(encoding="utf-8").splitlines() if line and line[0] != "#"]
    return {name: date.fromisoformat(until) for name, until, *_ in map(str.split, lines)}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
