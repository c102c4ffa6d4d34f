"""Components of other packages and of a user's own file: found, run on workers, and part of the ids."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import Distribution
from pathlib import Path

import pytest

from jobs import study as command
from softprior.activations.plan import plan_activations
from softprior.activations.spec import ActivationsSpec
from softprior.activations.worker import Worker
from softprior.errors import UserError
from softprior.inputs import components
from softprior.inputs.components import package_origin
from softprior.inputs.study_files import load_grid
from softprior.methods import METHODS
from softprior.priors import PRIORS
from softprior.regularisers import REGULARISERS
from softprior.results.records import load_records
from softprior.studies.plan import Plan, plan_study
from softprior.tasks import TASKS
from softprior.tasks.prepare import prepare
from softprior.testing import check_method, check_prior, check_regulariser, check_task
from softprior.training import own_code
from softprior.training.own_code import OwnCode, read_code, require_origins, use_code
from tests.builders import study_file, tiny
from tests.studies.runs import ONE, here

KIT = Path(__file__).parents[1] / "data" / "kit"

PRIOR = """
from __future__ import annotations

import torch

from softprior.priors import Distribution, Prior, PriorSource


class {name}(Prior):
    file: str = "{file}"
    scale: float = 0.5

    def fit(self, source: PriorSource) -> Distribution:
        return Draws(self.scale, source.hidden)


class Draws(Distribution):
    has_density = False

    def __init__(self, scale: float, hidden: int) -> None:
        self.scale, self.hidden = scale, hidden

    def sample(self, generator, count):
        return {sign}self.scale * torch.rand(count, self.hidden, generator=generator)
"""


def spiral(file: str = "a", sign: str = "") -> OwnCode:
    text = PRIOR.format(name="SpiralPrior", file=file, sign=sign)
    return OwnCode("spiral.py", text, Path("/mine/spiral.py"))


@pytest.fixture
def forgotten() -> Iterator[None]:
    """Code that a test makes known is not known to the next one."""
    yield
    components._OWN.clear()
    own_code._IN_USE.clear()


def planned(path: Path, *priors: object) -> Plan:
    return plan_study(load_grid(study_file(path / "study.yaml", priors=list(priors))))


def ids(plan: Plan) -> list[str]:
    return [trial.id for trial in plan.trials if trial.prior is not None]


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a package that offers one component of each axis, installed."""
    root, target = tmp_path_factory.mktemp("package"), tmp_path_factory.mktemp("installed")
    shutil.copytree(KIT, root, dirs_exist_ok=True)  # pip builds in the folder
    options = ["--quiet", "--no-index", "--no-deps", "--no-build-isolation", "--target", str(target)]
    subprocess.run([sys.executable, "-m", "pip", "install", *options, str(root)], check=True)
    return target


@pytest.fixture
def unknown_packages() -> Iterator[None]:
    """What a test has found installed is looked for again by the next one."""
    yield
    components.installed.cache_clear()


@pytest.mark.faults  # CI runs it
@pytest.mark.ray
@pytest.mark.timeout(300)
def test_a_package_and_a_file_offer_components_that_workers_run(
    package, tmp_path, monkeypatch, forgotten, capsys
):
    """Workers are new processes, which find the package as this one does and get the file.

    Every trained trial has the package's method, task and regulariser, and each of three has another prior.
    """
    code = tmp_path / "spiral.py"
    code.write_text(spiral().text)
    mixed = {"mixture": {"priors": ["ring", "isotropic"]}}
    others = {"methods": ["middle"], "tasks": ["vessels"], "regularisers": [["centred"]]}
    study = study_file(tmp_path / "study.yaml", priors=["spiral_prior", "ring", mixed], **others)
    with monkeypatch.context() as here_alone:
        here_alone.setenv("PYTHONPATH", str(package))
        here_alone.syspath_prepend(str(package))
        components.installed.cache_clear()
        status, output = here(study, tmp_path / "results", ONE, "--code", str(code))
    components.installed.cache_clear()
    components._OWN.clear()
    assert status == 0, output
    records = load_records(tmp_path / "results" / "small" / "records").values()
    origins = {r.spec.prior.name: r.spec.code for r in records if r.spec.prior is not None}
    assert origins == {
        "spiral_prior": ("softprior-kit 1.2", spiral().origin),
        "ring": ("softprior-kit 1.2",),
        "mixture": ("softprior-kit 1.2",),
    }
    assert all(record.status == "finished" for record in records)
    assert command.main([str(study), "--dry-run"]) == 2, "here neither is known"
    assert "priors[0] = 'spiral_prior' does not exist" in capsys.readouterr().err


@pytest.mark.faults  # for the time of whole suites in other processes
def test_a_component_of_each_axis_of_a_package_passes_its_suite(
    package, monkeypatch, unknown_packages
) -> None:
    monkeypatch.syspath_prepend(str(package))
    components.installed.cache_clear()
    ring, middle, vessels = PRIORS["ring"], METHODS["middle"], TASKS["vessels"]
    check_prior(ring())
    check_method(middle())
    check_task(vessels(), tiny().tokenizer)
    check_regulariser(REGULARISERS["centred"]())


def own_task(word: str = "urn") -> OwnCode:
    """The package's task as a file, with this word for its first answer."""
    text = (KIT / "softprior_kit.py").read_text(encoding="utf-8")
    return OwnCode("own.py", text.replace('"urn"', repr(word)))


def test_an_edited_task_has_rows_and_stores_of_its_own(tmp_path, forgotten):
    """Its parameters and the fingerprint of its data are as before. Workers of the activation job get it."""
    spec = ActivationsSpec.model_validate({"name": "own", "model": "tiny", "tasks": ["vessels"]})
    answers, plans = [], []
    for code in (own_task(), own_task("pan")):
        components._OWN.clear()
        use_code(code)
        answers.append(prepare(TASKS["vessels"](), tiny().tokenizer, "t").test.answers(0))
        plans.append(plan_activations(spec))
    assert answers == [("urn",), ("pan",)]
    first, second = plans
    assert first.key != second.key
    given = (spec.model_dump_json(), second.identity, str(tmp_path))
    components._OWN.clear()
    Worker(*given, code=[own_task("pan")[:2]])
    components._OWN.clear()
    with pytest.raises(UserError, match="vessels changed after the run was planned"):
        Worker(*given, code=[own_task()[:2]])


def test_own_code_counts_in_the_ids_of_its_trials_alone(tmp_path, forgotten):
    isotropic = ids(planned(tmp_path, "isotropic"))
    use_code(spiral())
    before = ids(planned(tmp_path, "isotropic", "spiral_prior"))
    assert before[:1] == isotropic
    with pytest.raises(UserError, match=r"both have 'spiral_prior' among priors; restart Python to use the"):
        use_code(spiral(sign="-"))
    components._OWN.clear()
    use_code(spiral(sign="-"))
    after = ids(planned(tmp_path, "isotropic", "spiral_prior"))
    assert after[:1] == isotropic
    assert after[1] != before[1]


def test_a_parameter_is_a_path_by_its_type_and_not_by_its_name(tmp_path, forgotten):
    use_code(spiral())
    one, other = ({"spiral_prior": {"file": file}} for file in ("a", "b"))
    assert len(set(ids(planned(tmp_path, one, other)))) == 2


def test_a_path_without_the_fingerprint_of_its_file_is_refused(tmp_path, forgotten):
    named = spiral().text.replace("    file: str", "    file: Annotated[str, SaysWhere()]")
    heading = "from typing import Annotated\nfrom softprior.inputs.base import SaysWhere\nimport torch\n"
    use_code(OwnCode("spiral.py", named.replace("import torch\n", heading, 1)))
    with pytest.raises(
        UserError, match=r"priors\[0\]: spiral_prior has a parameter .* contents\(\) returns no"
    ):
        planned(tmp_path, "spiral_prior")


def test_a_prior_of_ones_own_passes_the_contract(forgotten):
    assert use_code(spiral()) == {"priors": ["spiral_prior"]}
    check_prior(PRIORS["spiral_prior"]())


def test_the_example_of_the_docs_is_a_prior(forgotten):
    page = (Path(__file__).parents[2] / "docs" / "study-files.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"^```python\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    assert use_code(OwnCode("my_priors.py", example)) == {"priors": ["cube_prior"]}
    check_prior(PRIORS["cube_prior"](bound=2.0))  # wide enough for the suite's data


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("x = 1", "--code mine.py defines no component; derive a class from softprior.priors.base.Prior"),
        ("x = 1\ny = x / 0\n", "--code mine.py fails: line 2: ZeroDivisionError: division by zero"),
        ("x = (\n", r"--code mine.py fails: line 1: SyntaxError: '\(' was never closed"),
        (
            "from softprior.priors import Prior\n\nclass SpiralPrior(Prior):\n    def fitted(self): ...\n",
            r"--code mine.py: SpiralPrior is a Prior without fit\(\); define this method",
        ),
        (
            "from softprior.tasks import Task\n\nclass Own(Task): ...\n",
            r"Own is a Task without fingerprint\(\) and .* and splits\(\); define these methods",
        ),
        (
            PRIOR.format(name="SpiralPrior", file="", sign="")
            + PRIOR.format(name="Spiral_prior", file="", sign="").partition("\n\n\n")[2],
            "--code mine.py: two classes are called 'spiral_prior' among priors; rename one",
        ),
        (
            "from softprior.priors import Prior\n\nclass Own(Prior):\n    scale = 0.5\n",
            r"fails: line 3: PydanticUserError: A non-annotated attribute was detected: .*`; correct it$",
        ),
        (
            PRIOR.format(name="Fitted", file="", sign=""),
            r"mine.py \w{16} and softprior both have 'fitted' among priors; give yours another name",
        ),
    ],
)
def test_code_that_cannot_be_used_gets_one_sentence(text, sentence, forgotten):
    with pytest.raises(UserError, match=sentence):
        use_code(OwnCode("mine.py", text))


def test_two_files_that_define_one_name_are_told_to_rename_it(tmp_path, forgotten):
    """Neither is an edit of the other, although they have one name or begin with one word."""
    for first, second in (("a/mine.py", "b/mine.py"), ("my one.py", "my other.py")):
        for sign, name in (("", first), ("-", second)):
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).write_text(spiral(sign=sign).text, encoding="utf-8")
        use_code(read_code(tmp_path / first))
        with pytest.raises(UserError, match=r"'spiral_prior' among priors; rename one of the classes$"):
            use_code(read_code(tmp_path / second))
        components._OWN.clear()


@pytest.mark.parametrize(
    ("text", "said"), [("sys.exit(0)", "SystemExit: 0"), ("raise KeyboardInterrupt", "KeyboardInterrupt")]
)
def test_a_file_that_ends_the_process_is_refused(forgotten, text, said):
    """Otherwise the command ends with the file's own status and has run nothing."""
    with pytest.raises(UserError, match=rf"mine\.py fails: line 2: {said}"):
        use_code(OwnCode("mine.py", f"import sys\n{text}\n"))


def test_a_byte_order_mark_and_a_home_folder_change_nothing(tmp_path, monkeypatch, forgotten):
    monkeypatch.setenv("HOME", str(tmp_path))
    marked, plain = tmp_path / "marked", tmp_path / "spiral [v1]"
    for folder, mark in ((marked, b"\xef\xbb\xbf"), (plain, b"")):
        folder.mkdir()
        (folder / "spiral.py").write_bytes(mark + spiral().text.encode())
    read = [read_code(path) for path in (plain / "spiral.py", Path("~/marked/spiral.py"))]
    assert [code.origin for code in read] == [spiral().origin] * 2
    assert use_code(read_code(marked / "spiral.py")) == {"priors": ["spiral_prior"]}
    (marked / "helpers.py").touch()
    (marked / "spiral.py").write_bytes(b"\xef\xbb\xbfimport helpers\n")
    with pytest.raises(UserError, match=r"imports \S+helpers\.py \(line 1\)"):
        read_code(marked / "spiral.py")


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (
            "x = 'é'".encode("utf-16"),
            r"mine\.py is not UTF-8 \(byte 0: invalid start byte\); save it as UTF-8",
        ),
        ("x = 'é'".encode("latin-1"), r"mine\.py is not UTF-8 \(byte 5: "),
        (b"x = " + b"-" * 20_000 + b"1", r"mine\.py fails: .*Error"),
        (b"x = 1\0", r"mine\.py fails: (Syntax|Value)Error: .*null bytes"),
    ],
)
def test_files_that_python_does_not_read_get_one_sentence(content, sentence, tmp_path, forgotten):
    path = tmp_path / "mine.py"
    path.write_bytes(content)
    with pytest.raises(UserError, match=sentence):
        use_code(read_code(path))


def test_files_that_are_no_code_are_refused(tmp_path):
    with pytest.raises(UserError, match=r"takes a Python file, but .*study\.yaml does not end with \.py"):
        read_code(tmp_path / "study.yaml")
    with pytest.raises(UserError, match=r"nothing\.py cannot be read"):
        read_code(tmp_path / "nothing.py")


@pytest.fixture
def project(tmp_path: Path, monkeypatch) -> Iterator[Path]:
    """A project installed in editable form, which offers the prior `disc`; what pip writes, without pip."""
    source, target = tmp_path / "project", tmp_path / "installed"
    facts = target / "disc_prior-1.2.dist-info"
    for folder in (source / "disc_prior", facts):
        folder.mkdir(parents=True)
    (source / "disc_prior" / "__init__.py").write_text("from disc_prior.disc import Disc\n")
    (source / "disc_prior" / "disc.py").write_text(PRIOR.format(name="Disc", file="c", sign=""))
    (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: disc-prior\nVersion: 1.2\n")
    (facts / "entry_points.txt").write_text("[softprior.priors]\ndisc = disc_prior:Disc\n")
    url = {"url": source.as_uri(), "dir_info": {"editable": True}}
    (facts / "direct_url.json").write_text(json.dumps(url))
    monkeypatch.syspath_prepend(str(target))
    monkeypatch.syspath_prepend(str(source))
    yield source
    forget_packages()


def forget_packages() -> None:
    """What a new process has not imported."""
    components.installed.cache_clear()
    for name in [name for name in sys.modules if name.startswith("disc_prior")]:
        del sys.modules[name]


def disc_ids(path: Path, *priors: object) -> list[str]:
    forget_packages()
    return ids(planned(path, *priors))


def test_an_edit_of_an_editable_package_gives_its_trials_new_ids(project: Path, tmp_path: Path) -> None:
    first = disc_ids(tmp_path, "isotropic", "disc")
    (project / ".venv").mkdir()
    (project / ".venv" / "other.py").touch()
    assert disc_ids(tmp_path, "isotropic", "disc") == first
    module = project / "disc_prior" / "disc.py"
    module.write_text(PRIOR.format(name="Disc", file="c", sign="-"))
    second = disc_ids(tmp_path, "isotropic", "disc")
    assert second[0] == first[0]
    assert second[1] != first[1]


def test_a_package_that_is_not_editable_counts_by_its_version(project: Path) -> None:
    facts = project.parent / "installed" / "disc_prior-1.2.dist-info"
    assert package_origin(Distribution.at(facts)).startswith("disc-prior 1.2 editable ")
    (facts / "direct_url.json").write_text(json.dumps({"url": project.as_uri(), "dir_info": {}}))
    assert package_origin(Distribution.at(facts)) == "disc-prior 1.2"
    (facts / "direct_url.json").unlink()
    assert package_origin(Distribution.at(facts)) == "disc-prior 1.2"


def test_a_package_whose_component_lacks_a_method_is_refused(project: Path, tmp_path: Path) -> None:
    module = project / "disc_prior" / "disc.py"
    module.write_text(module.read_text().replace("def fit(", "def fitted("))
    with pytest.raises(
        UserError, match=r"offers 'disc' among priors, but it has no fit\(\); fix or uninstall"
    ):
        disc_ids(tmp_path, "isotropic")


def test_two_packages_that_offer_one_name_are_refused(project: Path, tmp_path: Path) -> None:
    """Or the order of Python's path would decide which of them a trial has."""
    facts = project.parent / "installed" / "disc_prior-1.2.dist-info"
    other = shutil.copytree(facts, facts.with_name("other-1.0.dist-info")) / "METADATA"
    other.write_text("Metadata-Version: 2.1\nName: other\nVersion: 1.0\n")
    (other.parent / "direct_url.json").unlink()
    with pytest.raises(UserError, match=r" and .* both offer 'disc' in softprior\.priors; uninstall one"):
        disc_ids(tmp_path, "isotropic")


def test_a_module_whose_name_no_file_can_have_is_left_to_python(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(f"import {'m' * 300}\n")
    assert read_code(file).text == file.read_text()


def test_a_worker_with_another_version_of_the_code_refuses_the_trial(forgotten) -> None:
    use_code(spiral())
    require_origins([spiral().origin])
    with pytest.raises(
        UserError, match=r"planned with disc-prior 1\.2 editable abc, which this process does not"
    ):
        require_origins([spiral().origin, "disc-prior 1.2 editable abc"])


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("import torch\nimport helpers\n", 2),
        ("from helpers import scale\n", 1),
        ("def fit():\n    from helpers.inner import scale\n", 2),
    ],
)
@pytest.mark.parametrize("on_path", [True, False])
def test_a_file_that_imports_a_module_of_ones_own_is_refused(
    text, line, on_path, tmp_path, monkeypatch
) -> None:
    (tmp_path / "helpers.py").write_text("scale = 1\n")
    if on_path:
        monkeypatch.syspath_prepend(str(tmp_path))
    mine = tmp_path / "mine.py"
    mine.write_text(text)
    refusal = rf"--code mine\.py imports \S+helpers\.py \(line {line}\), .*; put its code into mine\.py, or"
    with pytest.raises(UserError, match=refusal):
        read_code(mine)


def test_a_file_may_import_what_is_installed(project: Path, tmp_path: Path, monkeypatch) -> None:
    """An editable package is not: its version says nothing of its edits."""
    mine = tmp_path / "mine.py"
    mine.write_text(
        "from __future__ import annotations\nimport json, torch.nn\nimport softprior as sp, yaml\n"
    )
    assert read_code(mine).text == mine.read_text()
    mine.write_text("import disc_prior\n")
    with pytest.raises(UserError, match=r"imports \S+disc_prior \(line 1\)"):
        read_code(mine)
    (project / "disc_prior").rename(project.parent / "installed" / "disc_prior")
    monkeypatch.syspath_prepend(str(project.parent / "installed"))  # forgets what stood where
    assert read_code(mine).text == mine.read_text()
    mine.write_text("from . import helpers\n")
    with pytest.raises(UserError, match="line 1"):
        read_code(mine)
