"""What is committed of a study in docs/studies, and its verdicts by the rules of today.

A published study has `study.json`, `trials.parquet` and `verdicts.md`, its records and rows per example (as
folders, or packed into `trials.tar.xz`), and `evidence.json`: the numbers by seed of the claims that need
posteriors, which are too large to be committed. All other numbers are computed from the records.
"""

from __future__ import annotations

import json
import shutil
import tarfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from analysis.findings import collapse, memory
from analysis.findings.claims import JUDGED
from analysis.findings.common import Judged
from analysis.findings.evidence import Evidence, Noise
from analysis.findings.judging import judge
from analysis.findings.reading import read
from analysis.findings.study import Study
from analysis.findings.values import Finding
from softprior.assets.archives import unpack

DOCS = Path(__file__).parents[1] / "docs"
STUDIES = DOCS / "studies"

PACKED, EVIDENCE, VERDICTS = "trials.tar.xz", "evidence.json", "verdicts.md"

FOLDERS = ("records", "examples")
"""What is packed."""

FROM_POSTERIORS = (memory.JUDGED, collapse.JUDGED)

ANEW = "the claim's number has been defined anew since the study was published; publish it again"


def published_findings(folder: Path) -> tuple[Finding, ...]:
    """The verdicts on a published study by the rules of today."""
    with unpacked(folder) as whole:
        return judge(read(whole).study, [_with_stored(judged, folder) for judged in JUDGED])


@contextmanager
def unpacked(folder: Path) -> Iterator[Path]:
    """A folder that is read like a study's own: the published one, or a temporary one if it is packed."""
    if not (folder / PACKED).exists():
        yield folder
        return
    with TemporaryDirectory(prefix="softprior-published-") as root:
        whole = Path(root) / folder.name
        whole.mkdir()
        for name in ("study.json", "trials.parquet"):
            shutil.copy(folder / name, whole)
        unpack(folder / PACKED, whole)
        yield whole


def pack(folder: Path, trials: Sequence[str], target: Path) -> None:
    """Packs records and rows per example; equal files give an equal archive.

    Args:
        folder: of a study.
        trials: ids of those whose files are packed.
    """
    wanted = [folder / "records" / f"{trial}.json" for trial in sorted(trials)]
    wanted += [folder / "examples" / f"{trial}.parquet" for trial in sorted(trials)]
    with tarfile.open(target, "w:xz") as archive:
        for path in wanted:
            if path.exists():  # failed trials have no rows
                archive.add(path, f"{path.parent.name}/{path.name}", filter=_anonymous)


def save_evidence(study: Study, path: Path) -> None:
    """Writes the numbers of the claims that need posteriors."""
    found = {
        judged.claim.name: {
            "number": judged.claim.primary,
            "evidence": [_plain(one) for one in judged.evidence(study)],
        }
        for judged in FROM_POSTERIORS
    }
    path.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def _plain(evidence: Evidence) -> dict[str, Any]:
    """Evidence as JSON has it."""
    assert not evidence.examples, "of numbers that are not differences of losses there are none"
    found = asdict(evidence)
    del found["examples"]
    for name in ("numbers", "tested"):
        found[name] = {what: values.tolist() for what, values in found[name].items()}
    return found


def _with_stored(judged: Judged, folder: Path) -> Judged:
    """The claim with the evidence that was published, if it needs posteriors and some was."""
    path = folder / EVIDENCE
    if judged not in FROM_POSTERIORS or not path.exists():
        return judged
    stored = json.loads(path.read_text(encoding="utf-8"))[judged.claim.name]
    known = [_evidence(one) for one in stored["evidence"]]
    if stored["number"] != judged.claim.primary:
        known = [Evidence(where=one.where, missing=ANEW) for one in known]
    return judged._replace(evidence=lambda _: known)


def _evidence(plain: dict[str, Any]) -> Evidence:
    tables = {
        name: {what: np.array(values, dtype=float) for what, values in plain[name].items()}
        for name in ("numbers", "tested")
    }
    noise = plain["noise"]
    return Evidence(
        **plain
        | tables
        | {
            "trials": {what: tuple(trials) for what, trials in plain["trials"].items()},
            "margin_trials": tuple(plain["margin_trials"]),
            "primary": tuple(plain["primary"]),
            "noise": None
            if noise is None
            else Noise(noise[0], tuple(noise[1])),  # a list, as JSON has tuples
        }
    )


def _anonymous(member: tarfile.TarInfo) -> tarfile.TarInfo:
    """Without owner and time, which are this machine's."""
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    member.mtime = 0
    member.mode = 0o644
    return member
