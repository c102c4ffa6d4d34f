"""The token class `prompt`: states at the positions of trained prompts, and what they leave untouched."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from tokenizers.pre_tokenizers import Whitespace
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, AutoTokenizer

from softprior.activations.describe import describe
from softprior.activations.findings.prompts import prompt_states_of
from softprior.activations.folder import RunFolder
from softprior.activations.merging import finish
from softprior.activations.plan import RunPlan, plan_activations
from softprior.activations.prompts import PROMPT
from softprior.activations.spec import ActivationsSpec, PromptSpec
from softprior.assets.models import known_model, resolve_model
from softprior.errors import UserError
from softprior.inputs.specs import ModelSpec
from softprior.models.blocks import Blocks
from softprior.models.load import load_local
from softprior.priors.fitted import Fitted
from softprior.prompt import Place, Prompt
from softprior.results.posteriors import Posterior, save_posterior
from softprior.seeding import torch_generator
from softprior.statistics.store import KEY, load_statistics, load_tables, stored, token_classes
from softprior.statistics.units import PROMPTS
from softprior.testing.families import random_model, save_model
from softprior.testing.literal import literal_logits
from softprior.training.source import PlaceSource
from tests.activations.test_worker import everything, read, spec, worker

TEXTS = ([3, 1, 4, 1, 5], [9, 2, 6])


def vectors(count: int, width: int, seed: str = "") -> Tensor:
    return 0.3 * torch.randn(count, width, generator=torch_generator(0, "prompt", seed))


def posterior(path: Path, id: str, prompt: Prompt, **header: object) -> Path:
    """A posterior file, as a study leaves it."""
    trained = {"model": {"fingerprint": known_model(ModelSpec(id=id)).fingerprint}}
    save_posterior(path, Posterior(trained | header, dict(prompt), dict(prompt), {}))
    return path


def lines(folder: Path, **changes: object) -> ActivationsSpec:
    """A run over a few lines, which are written into the folder."""
    (folder / "lines.txt").write_text("".join(f"w{n} w{n + 1} w{2 * n} w3 w4\n" for n in range(9)))
    files = [{"name": "lines", "path": str(folder / "lines.txt"), "length": 64}]
    return spec(tasks=[], files=files, sequences=4, sample=2, **changes)


def run(folder: Path, **changes: object) -> RunFolder:
    """A whole run without Ray."""
    plan = plan_activations(lines(folder, **changes))
    made = RunFolder(folder / "run")
    outcomes = read(worker(plan, made), plan, *range(len(plan.shards)))
    assert not any(outcome.error for outcome in outcomes), outcomes
    finish(plan, made, {})
    return made


def fronts(model: nn.Module, prompt: Prompt, text: list[int]) -> dict[str, Tensor]:
    """What stands in front of a text at the sites behind block 0's input, in the literal form."""
    found: dict[str, Tensor] = {}

    def keep(site: str, states: Tensor) -> None:
        flat = states.reshape(-1, states.shape[-1])
        found[site] = flat[: len(flat) - len(text)]

    blocks = Blocks.of(model)
    last = f"resid.{len(blocks.layers)}"
    hooks = [
        layer.register_forward_pre_hook(lambda _, given, site=f"resid.{block}": keep(site, given[0]))
        for block, layer in enumerate(blocks.layers)
        if block
    ]
    for site, module in ((last, blocks.layers[-1]), ("final", blocks.final_norm)):
        hooks.append(
            module.register_forward_hook(
                lambda _, __, out, site=site: keep(site, out[0] if isinstance(out, tuple) else out)
            )
        )
    with torch.no_grad():
        if set(prompt) == {Place(0)}:
            embedded = model.get_input_embeddings()(torch.tensor(text))
            model(inputs_embeds=torch.cat([prompt[Place(0)], embedded])[None], use_cache=False)
        else:
            literal_logits(model, prompt, text)
            # It hands only the text to the final norm, which takes each vector on its own.
            found["final"] = blocks.final_norm(found[last])
    for hook in hooks:
        hook.remove()
    return found


def saved(family: str, folder: Path) -> str:
    """A random model of the family as a user has it, whose tokens are words."""
    save_model(random_model(family), folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.backend_tokenizer.pre_tokenizer = Whitespace()
    tokenizer.save_pretrained(folder)
    return str(folder)


@pytest.mark.parametrize("family", ["tiny", "gpt2"])
def test_the_states_are_those_of_the_literal_pass_in_front_of_any_text(family, tmp_path):
    """A soft prompt in transformers' own forward pass; one with cut vectors too in the literal form."""
    model = family if family == "tiny" else saved(family, tmp_path / "model")
    shape = known_model(ModelSpec(id=model)).shape
    assert shape is not None
    width = shape.hidden
    soft = {Place(0): vectors(4, width)}
    deep = {Place(0): vectors(3, width, "deep"), Place(2, after="cut"): vectors(2, width, "cut")}
    files = {
        name: posterior(tmp_path / f"{name}.safetensors", model, prompt)
        for name, prompt in (("soft", soft), ("deep", deep))
    }
    given = [{"name": name, "file": str(file)} for name, file in files.items()]
    store = run(tmp_path, model=model, sites="all", prompts=given).store
    sites = [*(f"resid.{block}" for block in range(shape.blocks + 1)), "final"]
    assert stored(store)[PROMPTS] == sites  # keys and values have none
    folder = resolve_model(ModelSpec(id=model)).folder
    oracle = AutoModelForCausalLM.from_pretrained(
        folder, attn_implementation="eager", dtype=torch.float32
    ).eval()
    for name, prompt in (("soft", soft), ("deep", deep)):
        for text in TEXTS:
            expected = fronts(oracle, prompt, text)
            assert set(expected) == set(sites[1:])
            for site, states in expected.items():
                found = prompt_states_of(store, site)[name]
                assert found.cut.tolist() == [site == "resid.2" and name == "deep"] * (
                    len(states) - len(prompt[Place(0)])
                ) + [False] * len(prompt[Place(0)])
                # Rounding, relative to the largest: 1e-6 observed.
                assert float((found.vectors - states).abs().max()) < 1e-5 * float(states.abs().max())
        # In the units of embeddings, whatever a family adds before block 0.
        assert torch.equal(prompt_states_of(store, "resid.0")[name].vectors, prompt[Place(0)])
    assert list(prompt_states_of(store, "resid.2")) == ["deep", "soft"]  # by name, not as given
    assert torch.equal(prompt_states_of(store, "resid.2")["deep"].vectors[:2], deep[Place(2, after="cut")])


@pytest.fixture(scope="module")
def followed(tmp_path_factory: pytest.TempPathFactory) -> tuple[RunFolder, RunFolder]:
    """One run with prompts, and the same without."""
    folder = tmp_path_factory.mktemp("followed")
    file = posterior(folder / "soft.safetensors", "tiny", {Place(0): vectors(4, 128)})
    cut = posterior(folder / "cut.safetensors", "tiny", {Place(3, after="cut"): vectors(2, 128, "cut")})
    prompts = [{"name": "soft", "file": str(file)}, {"name": "cut", "file": str(cut)}]
    whole, bare = folder / "whole", folder / "bare"
    whole.mkdir()
    bare.mkdir()
    return run(whole, prompts=prompts), run(bare)


def test_a_file_of_prompts_counts_its_vectors_and_names_their_files(followed):
    whole, _ = followed
    summary = json.loads(whole.summary.read_text())
    read_ = summary["tasks"][PROMPTS]
    assert (read_["texts"], read_["documents"], read_["tokens"]) == (2, 2, 6)
    assert token_classes(whole.store, PROMPTS, "resid.0") == {PROMPT: 4}
    assert token_classes(whole.store, PROMPTS, "resid.3") == {PROMPT: 6}  # more than the sample's two
    counts = {name: count for name, (count, _) in load_tables(whole.store, PROMPTS, "resid.3").groups.items()}
    assert counts == {"cut": 2, "soft": 4}
    found = load_statistics(whole.store, PROMPTS, "resid.3", PROMPT, summary["identity"]["model"])
    torch.testing.assert_close(found.moments.mean, found.sample.double().mean(0), rtol=0, atol=1e-6)
    assert len(found.sample) == 6
    _, means = load_tables(whole.store, PROMPTS, "resid.0").groups["soft"]
    torch.testing.assert_close(means, vectors(4, 128).double().mean(0))
    with safe_open(whole.store / PROMPTS / "resid.0.safetensors", framework="pt") as file:
        header = json.loads(file.metadata()[KEY])
    assert header["prompts"] == {name: summary["identity"][f"prompts.{name}"] for name in ("cut", "soft")}
    assert header["merged"] == {}


def test_the_tasks_are_as_if_no_prompt_were_followed(followed):
    """Bit for bit but for the hash of where the texts are."""
    (whole, headers), (bare, others) = (everything(folder) for folder in followed)
    own = {name: tensor for name, tensor in whole.items() if not name.startswith(PROMPTS)}
    assert own.keys() == bare.keys()
    for name, tensor in own.items():
        torch.testing.assert_close(bare[name], tensor, rtol=0, atol=0, equal_nan=True, msg=name)
    for name, header in others.items():
        assert headers[name] | {"data": ""} == header | {"data": ""}


def test_a_prior_takes_the_states_of_prompts_only_if_both_names_ask_for_them(followed):
    store = followed[0].store
    loaded = load_local(ModelSpec(id="tiny"))
    source = PlaceSource(loaded.host, loaded.tokenizer, Place(0), 5)
    with pytest.raises(UserError, match="has no token class 'all'"):
        Fitted(statistics=store, task=PROMPTS).fit(source)
    with pytest.raises(UserError, match="has no token class 'prompt'"):
        Fitted(statistics=store, task="lines", tokens="all+prompt").fit(source)
    asked = Fitted(statistics=store, task=PROMPTS, tokens=PROMPT).fit(source)
    assert asked.record()["source"] == f"{PROMPTS} prompt at resid.0"
    assert asked.record()["documents"] == 1


def test_a_plan_knows_its_prompts_and_one_without_is_the_old_one(tmp_path):
    file = posterior(tmp_path / "p.safetensors", "tiny", {Place(0): vectors(4, 128)})
    other = posterior(tmp_path / "q.safetensors", "tiny", {Place(0): vectors(4, 128, "other")})
    bare = lines(tmp_path)

    def plan(**files: Path) -> RunPlan:
        given = tuple(PromptSpec(name=name, file=path) for name, path in files.items())
        return plan_activations(bare.model_copy(update={"prompts": given}))

    none, both = plan(), plan(a=file, b=other)
    assert not any(PROMPT in name for name in (*none.identity, *none.groups))
    assert none.identity.items() <= both.identity.items()
    assert both.identity.keys() - none.identity.keys() == {"prompts.a", "prompts.b"}
    keys = [one.key for one in (none, both, plan(a=file), plan(b=file), plan(a=other))]
    assert len(set(keys)) == len(keys)
    assert plan(b=other, a=file).key == both.key
    sizes = {"train_examples": 45, "validation_examples": 9, "test_examples": 9}
    pinned = {"name": "pinned", "model": "tiny", "tasks": [{"arithmetic": sizes}], "tokens": 1000}
    assert plan_activations(ActivationsSpec.model_validate(pinned)).key == "a09d013f4b16a331"
    compiled = bare.model.model_copy(update={"kernels": "compiled"})
    assert plan_activations(bare.model_copy(update={"model": compiled})).key == none.key
    assert both.tasks == none.tasks == ("lines",)
    assert "  the states at the positions of 2 prompts: a, b" in describe(both, with_findings=True)
    with pytest.raises(UserError, match=r"prompts\.a changed after the run was planned"):
        worker(both, RunFolder(tmp_path), **{"prompts.a": "other"})


FITTING = {Place(0): torch.zeros(4, 128)}


@pytest.mark.parametrize(
    ("prompt", "header", "changes", "said"),
    [
        (FITTING, {"model": {"fingerprint": "other" * 4}}, {}, r"was trained for another model \(otherother"),
        (FITTING, {"model": None}, {}, "does not say which model it was trained for"),
        ({Place(0): torch.zeros(4, 7)}, {}, {}, r"vectors of 7 dimensions at decoder\.0\.residual\.keep"),
        (
            {Place(2, kind): torch.zeros(4, 64) for kind in ("key", "value")},
            {},
            {},
            r"vectors at decoder\.2\.key\.keep: keys and values are attended to but have no states",
        ),
        (
            {Place(0, stack="encoder"): torch.zeros(4, 128)},
            {},
            {},
            r"vectors at encoder\.0\.residual\.keep: an encoder reads them together with the text",
        ),
        ({Place(99, after="cut"): torch.zeros(4, 128)}, {}, {}, r"but the last block of tiny is \d"),
        ({Place(2, after="cut"): torch.zeros(4, 128)}, {}, {"sites": ["resid.1"]}, "add resid.2 to sites"),
        (FITTING, {}, {"sites": ["key.1"]}, "no states at any of the sites; add resid.0 to sites"),
    ],
)
def test_what_cannot_be_followed_is_refused_by_name(prompt, header, changes, said, tmp_path):
    shape = known_model(ModelSpec(id="tiny")).shape
    assert shape is not None
    prompt = {
        place: given[:, :1].expand(-1, shape.keys) if place.kind != "residual" else given
        for place, given in prompt.items()
    }
    file = posterior(tmp_path / "p.safetensors", "tiny", prompt, **header)
    with pytest.raises(UserError, match=said) as error:
        plan_activations(spec(prompts=[{"name": "a", "file": str(file)}], **changes), "a.yaml")
    assert str(error.value).startswith(f"a.yaml: prompts[0].file = {file} ")


def test_texts_and_the_prompt_in_front_of_them_fit_the_models_positions(tmp_path):
    """A text of 1,021 tokens in a model of 1,024 positions leaves room for three vectors."""
    (tmp_path / "long.txt").write_text("3+4=7\n" * 2000)
    files = [{"name": "long", "path": str(tmp_path / "long.txt"), "length": 1021}]
    three, four = (
        posterior(tmp_path / f"{count}.safetensors", "tiny", {Place(0): vectors(count, 128)})
        for count in (3, 4)
    )
    plan_activations(spec(tasks=[], files=files, prompt=str(three)))
    with pytest.raises(
        UserError, match=r"up to 1,021 tokens behind 4 vectors of the prompt, but tiny has 1,024"
    ):
        plan_activations(spec(tasks=[], files=files, prompt=str(four)))


def test_a_file_that_is_none_and_a_name_for_two_are_refused(tmp_path):
    with pytest.raises(UserError, match=r"prompts\[0\]\.file: there is no posterior file .*none"):
        plan_activations(spec(prompts=[{"name": "a", "file": str(tmp_path / "none")}]))
    with pytest.raises(
        UserError, match=r"prompts\[0\]\.file: .* is a folder, not a posterior file; there are none in"
    ):
        plan_activations(spec(prompts=[{"name": "a", "file": str(tmp_path)}]))
    with pytest.raises(ValueError, match="prompts names 'a' twice"):
        spec(prompts=[{"name": "a", "file": file} for file in ("one", "two")])
