"""All bad inputs by kind, which docs/reliability.md counts."""

from __future__ import annotations

from tests.hostile import data_sets, folders, study_files, tensors
from tests.hostile.harness import Case

CORPUS: dict[str, list[Case]] = {
    "study files, their values, overrides": study_files.CASES,
    "data sets: JSON lines, CSV, Parquet, SQuAD, text": data_sets.CASES,
    "JSON files of models, adapters and results": folders.JSON_FILES,
    "model folders, GGUF files": folders.MODEL_FOLDERS,
    "archives": folders.PACKED,
    "results folders, statistics stores, tracking stores": folders.RESULTS_FOLDERS,
    "safetensors: posteriors, checkpoints, statistics, sums, adapters, weights": tensors.CASES,
}
