"""The page about one's own data and model, block by block: a file, a study, its report and an adapter."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

from peft import PeftConfig

from jobs import exchange, report, study
from softprior.inputs.study_files import load_grid
from softprior.models.load import load_local
from softprior.results.folder import StudyFolder
from softprior.studies.plan import plan_study
from softprior.studies.table import write_study, write_table
from softprior.training.setup import Setup
from softprior.training.trial import Trial
from tests.docs.test_snippets import BLOCKS

PAGE = "docs/own-data.md"

FEWER = ("training.steps=4", "seeds=[0]", "evaluation.examples=6", "evaluation.generate=6")
"""In place of the page's numbers; all else is as it stands there."""

RUN = "jobs.study own.yaml"
"""The command that starts Ray, in whose place the trials run in this process."""


def test_from_a_file_of_rows_to_a_report_and_an_adapter(tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    jobs = {"jobs.study": study, "jobs.report": report, "jobs.exchange": exchange}
    for block in (block for block in BLOCKS if block.page == PAGE):
        if block.language == "python":
            exec(compile("\n" * block.line + block.text, PAGE, "exec"), names)
        elif block.language == "yaml" and block.text.startswith("name:"):
            Path("own.yaml").write_text(block.text, encoding="utf-8")
        elif block.language == "sh":
            for line in block.text.splitlines():
                command = line.partition("python -m ")[2]
                if command == RUN:
                    _run_here()
                    continue
                job, *arguments = shlex.split(command.replace("TRIAL", str(names.get("best"))))
                assert jobs[job].main(arguments) == 0, capsys.readouterr().err
    assert Path("results/own/report.html").stat().st_size > 10_000
    assert PeftConfig.from_pretrained("my-adapter").num_virtual_tokens == 8
    assert set(names["rows"]["expected"].map(len)) == {1}


def _run_here() -> None:
    """The study, in this process."""
    plan = plan_study(load_grid(Path("own.yaml"), FEWER))
    folder = StudyFolder(Path("results/own"))
    loaded = load_local(plan.study.model)
    host = (loaded.host, loaded.tokenizer, loaded.fingerprint)
    records = {one.id: Trial(Setup(one, *host), folder, lambda _: None).run() for one in plan.trials}
    write_study(folder, plan.spec, plan.trials)
    write_table(folder, plan.trials, plan.components, records)
