"""docs/findings.md has the claims of the code: `python -m tests.docs.test_findings_page` renews it."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path

from analysis.comparisons import Row, caption
from analysis.findings.claims import CLAIMS
from analysis.findings.values import Claim

PAGE = Path(__file__).parents[2] / "docs" / "findings.md"
BLOCK = re.compile(r"(<!-- claims -->\n).*?(<!-- end claims -->)", re.DOTALL)


def section(claim: Claim) -> str:
    lines = [f"### {claim.words}", ""]
    lines += [f"`{claim.name}`, claim {claim.number}.", ""]
    for name in ("primary", "rule", "margin"):
        title = {"primary": "Number"}.get(name, name.capitalize())
        text = f"- **{title}.** {getattr(claim, name)}"
        lines += textwrap.wrap(text, 118, subsequent_indent="  ", break_on_hyphens=False)
    return "\n".join(lines)


def renewed(page: str) -> str:
    claims = "\n\n".join(map(section, CLAIMS))
    return BLOCK.sub(lambda match: f"{match[1]}\n{claims}\n\n{match[2]}", page)


def test_the_page_has_the_claims_of_the_code() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert renewed(page) == page, "run python -m tests.docs.test_findings_page"
    assert all(claim.words in page for claim in CLAIMS)


def test_the_page_quotes_what_is_printed_of_seeds() -> None:
    row = Row(where="", value="b", reference="a", rates=None, budgets=(1, 1), seeds=5, least_p=2 / 2**5)
    (line,) = [line for line in caption([row] * 2) if "at best" in line]
    printed = line.rpartition(": ")[2]
    assert printed == "at least 7 seeds are needed for 0.05"
    assert f'| `jobs.compare`: "{printed}" |' in PAGE.read_text(encoding="utf-8")


if __name__ == "__main__":
    PAGE.write_text(renewed(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
