"""A trial in the schema of PEFT's method comparison: the columns of its table, from a real trial."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from analysis.method_comparison import comparison_row
from jobs import exchange as command
from softprior.errors import UserError
from softprior.library.results import Results

TABLE: dict[str, tuple[tuple[str, ...], Any]] = {
    "experiment_name": (("run_info", "experiment_name"), "string"),
    "model_id": (("run_info", "train_config", "model_id"), "string"),
    "peft_type": (("run_info", "peft_config", "peft_type"), "string"),
    "accelerator_memory_reserved_avg": (("train_info", "accelerator_memory_reserved_avg"), int),
    "accelerator_memory_max": (("train_info", "accelerator_memory_max"), int),
    "accelerator_memory_reserved_99th": (("train_info", "accelerator_memory_reserved_99th"), int),
    "total_time": (("run_info", "total_time"), float),
    "train_time": (("train_info", "train_time"), float),
    "file_size": (("train_info", "file_size"), int),
    "num_trainable_params": (("train_info", "num_trainable_params"), int),
    "train_loss": (("train_info", "metrics", -1, "train loss"), float),
    "train_samples": (("train_info", "metrics", -1, "train samples"), int),
    "train_total_tokens": (("train_info", "metrics", -1, "train total tokens"), int),
    "test_accuracy": (("train_info", "metrics", -1, "test accuracy"), float),
    "forgetting": (("train_info", "metrics", -1, "forgetting"), float),
    "peft_version": (("meta_info", "package_info", "peft-version"), "string"),
    "peft_branch": (("run_info", "peft_branch"), "string"),
    "transformers_version": (("meta_info", "package_info", "transformers-version"), "string"),
    "datasets_version": (("meta_info", "package_info", "datasets-version"), "string"),
    "torch_version": (("meta_info", "package_info", "torch-version"), "string"),
    "bitsandbytes_version": (("meta_info", "package_info", "bitsandbytes-version"), "string"),
    "created_at": (("run_info", "created_at"), "string"),
}  # type: ignore[dict-item]
"""Where its `processing.py` reads each column of the table (August 2026), and as what."""


def test_the_command_writes_a_row_of_the_table(finished_study: Any, tmp_path: Path) -> None:
    trial, record = next((i, r) for i, r in finished_study.records.items() if r.spec.training is not None)
    study, file = str(finished_study.folder.root), tmp_path / "row.json"
    assert command.main(["row", study, trial[:8], str(file), "--base", "owner/tiny"]) == 0
    row = json.loads(file.read_text())
    found: dict[str, Any] = {}
    for column, (path, _) in TABLE.items():
        value: Any = row
        for key in path:
            value = value[key]
        found[column] = value
    table = pd.DataFrame([found]).astype({column: kind for column, (_, kind) in TABLE.items()})
    shown = table.iloc[0]
    assert row["train_info"]["status"] == "success"
    assert shown.model_id == "owner/tiny"
    assert shown.peft_type == "PROMPT_TUNING"
    assert shown.test_accuracy == record.test.metrics["exact_match"]
    assert shown.num_trainable_params == 4 * 128
    assert shown.train_samples == 6 * 8
    assert shown.train_loss == pytest.approx(sum(step.loss for step in record.steps) / 6)
    assert shown.train_total_tokens == record.cost.positions
    assert pd.isna(shown.forgetting)  # not 123, as PEFT fills in
    assert row["run_info"]["train_config"]["optimizer_kwargs"]["lr"] == 0.05
    assert str(finished_study.folder.root) not in file.read_text()
    assert command.main(["export", str(finished_study.folder.posterior(trial)), str(tmp_path / "a")]) == 0
    assert (tmp_path / "a" / "adapter_model.safetensors").stat().st_size == shown.file_size
    assert command.main(["row", study, trial, str(file)]) == 2  # nothing is overwritten
    assert command.main(["row", study, trial, str(file / "inside a file.json")]) == 2


def test_losses_of_the_start_and_waiting_are_not_in_the_total_time(finished_study: Any) -> None:
    results = Results(finished_study.folder.root)
    record = next(r for r in results.records.values() if r.spec.training is not None and r.cost is not None)
    assert record.cost is not None
    seconds = {"start": 100.0, "waiting": 50.0, "training": 3.0, "test": 0.5}
    timed = record.model_copy(update={"cost": record.cost.model_copy(update={"seconds": seconds})})
    row = comparison_row(results, timed)
    assert row["run_info"]["total_time"] == 3.5
    assert "records made before they were timed separately" in row["softprior"]["note"]


def test_a_trial_without_generated_answers_has_no_accuracy_there(finished_study: Any) -> None:
    results = Results(finished_study.folder.root)
    record = next(r for r in results.records.values() if r.spec.training is not None and r.test is not None)
    assert record.test is not None
    without = record.model_copy(update={"test": record.test.model_copy(update={"metrics": {}})})
    with pytest.raises(UserError, match="has no exact_match of generated answers"):
        comparison_row(results, without)
