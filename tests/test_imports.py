"""Imports point one way, and heavy libraries enter through one folder each: read off the source."""

import ast
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

BELOW: dict[str, set[str]] = {
    "errors": set(),
    "liveness": set(),
    "seeding": {"errors"},
    "prompt": {"errors"},
    "inputs": {"errors"},
    "results": {"errors", "inputs", "prompt", "seeding"},
    "statistics": {"errors", "results", "seeding"},
    "assets": {"errors", "inputs", "liveness", "prompt", "results", "seeding"},
}
"""The base layer: what each may import."""

BASE = set(BELOW)
LAYERS: list[set[str]] = [
    BASE,
    {"priors", "methods", "tasks", "models"},
    {"regularisers"},
    {"training"},
    {"testing"},
]
"""Each may import what stands before it. Siblings of a layer do not import each other."""

for i, layer in enumerate(LAYERS[1:], start=1):
    for part in layer:
        BELOW[part] = set().union(*LAYERS[:i])
BELOW["tracking"] = BASE | {"methods", "tasks", "training"}
BELOW["activations"] = BASE | {"tasks", "models", "training"}
BELOW["exchange"] = BASE | {"models", "tasks", "training"}
BELOW["studies"] = BASE | {"priors", "methods", "tasks", "models", "regularisers", "training"}
BELOW["library"] = set(BELOW) - {"testing", "activations", "exchange"}
BELOW["analysis"] = set(BELOW) - {"testing"}
BELOW["jobs"] = set(BELOW) - {"testing"}

ONLY_IN = {
    "mlflow": ["platform/softprior/tracking/"],
    "ray": [
        "platform/softprior/studies/",
        "platform/softprior/activations/run.py",
        "platform/softprior/models/hosted.py",
        "platform/softprior/models/replica.py",
    ],
    "ddsketch": ["platform/softprior/statistics/norms.py"],
    "diptest": ["platform/softprior/statistics/unimodality.py"],
    "deepspeed": [
        "platform/softprior/models/deepspeed_private.py",
        "platform/softprior/models/rank_process.py",
    ],
    "optuna": ["platform/softprior/studies/"],
    "peft": [],
    "pytest": ["platform/softprior/testing/"],
    "hypothesis": [],
    "matplotlib": ["analysis/"],
    "statsmodels": [],
    "lifelines": ["analysis/inference/"],
}
"""Where a heavy library, or one of tests and benchmarks, may enter."""


def sources() -> dict[str, Path]:
    """Every module of the package, the jobs and the analysis by its dotted name."""
    found = {}
    for folder in (ROOT / "platform" / "softprior", ROOT / "jobs", ROOT / "analysis"):
        for path in sorted(folder.rglob("*.py")):
            parts = path.relative_to(folder.parent).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


SOURCES = sources()


@cache
def imports(path: Path, top_level_only: bool = False) -> list[tuple[int, str]]:
    """Line and dotted name of every import; `from a import b` gives `a.b`."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    found = []
    for node in tree.body if top_level_only else ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [(node.lineno, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, (
                f"{path}:{node.lineno} imports relatively, which this test does not follow"
            )
            found += [(node.lineno, f"{node.module}.{alias.name}") for alias in node.names]
    return found


def module_of(name: str) -> str | None:
    """The module of ours that an import names, itself or through something in it."""
    while name and name not in SOURCES:
        name = name.rpartition(".")[0]
    return name or None


def part_of(module: str) -> str:
    """The layer's name: the first word after `softprior`, or `jobs` or `analysis`."""
    words = module.split(".")
    return words[1] if words[0] == "softprior" and len(words) > 1 else words[0]


def test_a_package_imports_its_names_when_they_are_used():
    found = {name.split(".")[0] for _, name in imports(SOURCES["softprior"], top_level_only=True)}
    assert found <= {"__future__", "importlib", "typing"}


def test_imports_point_downwards():
    wrong = []
    for module in sorted({*SOURCES} - {"softprior"}):
        part = part_of(module)
        assert part in BELOW, f"{part} is new: give it a place in BELOW"
        for line, name in imports(SOURCES[module]):
            target = module_of(name)
            if target is None or target == "softprior" or part_of(target) == part:
                continue
            if part_of(target) not in BELOW[part]:
                wrong.append(f"{SOURCES[module]}:{line} imports {name} from above or beside")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("top_level_only", [True, False])
def test_modules_have_no_cycles(top_level_only):
    graph = {
        module: {module_of(name) for _, name in imports(path, top_level_only)} - {None, module}
        for module, path in SOURCES.items()
        if module != "softprior"
    }
    try:
        list(TopologicalSorter(graph).static_order())
    except CycleError as error:
        pytest.fail(f"these modules import each other: {error.args[1]}")


@pytest.mark.parametrize("library", sorted(ONLY_IN))
def test_heavy_libraries_enter_in_one_place(library):
    for path in SOURCES.values():
        place = path.relative_to(ROOT).as_posix()
        for line, name in imports(path):
            if name.split(".")[0] == library:
                assert place.startswith(tuple(ONLY_IN[library])), f"{place}:{line} imports {library}"


def test_modules_are_found_and_followed():
    """Or everything above would pass on an empty tree."""
    assert {"softprior.inputs.specs", "softprior.priors", "softprior.training.trial", "jobs.study"} <= set(
        SOURCES
    )
    assert module_of("softprior.priors.PRIORS") == "softprior.priors"
    assert module_of("softprior.priors.fitted.Fitted") == "softprior.priors.fitted"
    assert module_of("torch.nn") is None
    names = [name for _, name in imports(SOURCES["softprior.studies.plan"])]
    assert "softprior.priors.assignment" in names
    uses = {
        library
        for library in ONLY_IN
        for path in SOURCES.values()
        for _, name in imports(path)
        if name.split(".")[0] == library
    }
    assert {"mlflow", "ray", "matplotlib", "pytest"} <= uses
