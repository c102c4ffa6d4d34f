"""What works for which family; `python -m tests.models.matrix` writes it into docs/models.md.

A small random model of each family is saved and loaded as a user's is. Where softprior takes it, every
number is held against the literal form or PEFT; where it refuses, the sentence goes into the page.
"""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from torch import nn
from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM

from softprior.errors import UserError
from softprior.exchange import export_adapter
from softprior.inputs.specs import ModelSpec
from softprior.methods import METHODS, Method
from softprior.models.load import load_local
from softprior.models.protocol import FrozenLM
from softprior.prompt import Batch, Prompt, Row, collate
from softprior.results.posteriors import Posterior, save_posterior
from softprior.testing.families import random_model, save_model
from softprior.testing.hosts.closeness import CLOSE, assert_close
from softprior.testing.hosts.examples import MAX_NEW, example_batch, firsts, picked, texts
from softprior.testing.hosts.losses import literal_nll
from softprior.testing.hosts.oracle import at_sites, hidden_states, positions, predictions
from softprior.testing.hosts.recorder import Recorder

PAGE = Path(__file__).parents[2] / "docs" / "models.md"
BLOCK = re.compile(r"(<!-- families -->\n)(.*?)(<!-- end -->)", re.DOTALL)

FAMILIES = {
    "Llama": "llama",
    "Qwen2": "qwen2",
    "Qwen3, with windows": "qwen3",
    "Gemma 2": "gemma2",
    "Gemma 3": "gemma3",
    "Gemma 4, without per-layer embeddings": "gemma4",
    "Mistral, with a window": "mistral",
    "Phi-3": "phi3",
    "OLMo 2": "olmo2",
    "GPT-NeoX": "gpt_neox",
    "GPT-2": "gpt2",
    "Falcon": "falcon",
    "gpt-oss": "gpt_oss",
    "T5": "t5",
}
"""As the page names them, and as `softprior.testing.families` does."""

TRAINED: dict[str, Method] = {
    "soft": METHODS["soft"](tokens=3),
    "deep": METHODS["deep"](tokens=3, last=2),
    "prefix": METHODS["prefix"](tokens=3),
}
BEHIND: dict[str, Method] = {
    "soft": METHODS["soft"](tokens=3, placement="after_bos"),
    "deep": METHODS["deep"](tokens=3, last=2, placement="after_bos"),
}
PARTS = (*TRAINED, "after_bos", "generation", "observe", "export soft", "export prefix")
"""The columns of the table."""

Found = dict[str, str | None]
"""By part: None where it works, and otherwise the refusal."""


def found(family: str) -> Found:
    """What works for a family.

    Raises:
        AssertionError: a number is wrong, so that the part neither works nor is refused.
    """
    with tempfile.TemporaryDirectory() as temporary:
        folder = save_model(random_model(family), Path(temporary) / family)
        _name_special_tokens(folder / "tokenizer_config.json")

        def refusal(call: Callable[..., object], *arguments: Any) -> str | None:
            try:
                call(*arguments)
            except UserError as error:
                return str(error).replace(f"model {folder}", "the model").replace(str(folder), "FOLDER")
            return None

        whole = refusal(_host, folder)
        if whole is not None:
            return dict.fromkeys(PARTS, whole)
        host, oracle = _host(folder), _oracle(folder)
        refused: Found = {name: refusal(_prompt, host, method) for name, method in TRAINED.items()}
        prompts = {name: _prompt(host, TRAINED[name]) for name, why in refused.items() if why is None}
        for name, prompt in prompts.items():
            refused[name] = refusal(_check_training, host, oracle, prompt)
        refused["after_bos"] = refusal(_check_behind, host, oracle)
        refused["generation"] = refusal(_check_generation, host, oracle, prompts)
        refused["observe"] = refusal(_check_observed, host, oracle)
        for name in ("soft", "prefix"):
            own = refused[name] or refusal(_check_export, host, folder, prompts[name])
            refused[f"export {name}"] = own
        load_local.cache_clear()
        return refused


def _name_special_tokens(path: Path) -> None:
    """Says which words end texts and fill rows, or Qwen2's tokenizer adds tokens beyond the table."""
    config = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(config | {"eos_token": "w2", "pad_token": "w2"}), encoding="utf-8")


def _host(folder: Path) -> FrozenLM:
    return load_local(ModelSpec(id=str(folder), device="cpu")).host


def _oracle(folder: Path) -> Any:
    kind: Any = AutoModelForSeq2SeqLM if folder.name == "t5" else AutoModelForCausalLM
    return kind.from_pretrained(folder, attn_implementation="eager", dtype=torch.float32).eval()


def _prompt(host: FrozenLM, method: Method) -> Prompt:
    info = host.info()
    size = host.embed(torch.arange(info.vocabulary)).square().mean().sqrt()
    generator = torch.Generator().manual_seed(0)
    places = method.places(info.blocks, info.stack)
    return {place: size * torch.randn(3, host.width(place), generator=generator) for place in places}


def _check_behind(host: FrozenLM, oracle: nn.Module) -> None:
    """`_check_training` for prompts behind the first token, which is the same in all rows."""
    batch = picked(example_batch(host.info()), [0, 1, 2, 4])
    batch.tokens[:, 0] = 1
    for method in BEHIND.values():
        _check_training(host, oracle, _prompt(host, method), batch)


def _check_training(host: FrozenLM, oracle: nn.Module, prompt: Prompt, batch: Batch | None = None) -> None:
    """Losses and gradients are those of the literal form."""
    batch = batch or example_batch(host.info())
    losses = host.loss(prompt, batch, grad=True)
    leaves = {place: vectors.clone().requires_grad_() for place, vectors in prompt.items()}
    expected = literal_nll(oracle.requires_grad_(False), leaves, batch)
    assert_close(losses.nll, expected)
    (expected * batch.weights).sum().backward()
    assert losses.gradient is not None
    for place, leaf in leaves.items():
        assert leaf.grad is not None
        assert_close(losses.gradient[place], leaf.grad, place.name)


@torch.no_grad()
def _check_generation(host: FrozenLM, oracle: nn.Module, prompts: Mapping[str, Prompt]) -> None:
    """Each token is the first choice of a whole literal forward, without a prompt and with each."""
    batch = example_batch(host.info())
    for name, prompt in {"none": {}, **prompts}.items():
        written = host.generate(prompt, batch, max_new=MAX_NEW, stop=frozenset())
        for text, first, out in zip(texts(batch), firsts(batch), written, strict=True):
            logits = predictions(oracle, prompt, text + out[:-1], first)[-MAX_NEW:]
            behind = logits.max(-1).values - logits.gather(1, torch.tensor(out)[:, None])[:, 0]
            assert bool((behind <= CLOSE * logits.abs().max()).all()), name


@torch.no_grad()
def _check_observed(host: FrozenLM, oracle: nn.Module) -> None:
    """States are transformers' own `hidden_states`."""
    batch = example_batch(host.info())
    rows = list(zip(texts(batch), firsts(batch), strict=True))
    own = [at_sites(oracle, hidden_states(oracle, *row), row[0]) for row in rows]
    seen = host.observe(None, batch, list(own[0]), Recorder())
    for site in own[0]:
        assert_close(seen.by_text(site)[0], torch.cat([one[site] for one in own]), site)
        assert [len(one[site]) for one in own] == [len(positions(site, *row)) for row in rows]


@torch.no_grad()
def _check_export(host: FrozenLM, folder: Path, prompt: Prompt) -> None:
    """PEFT loads the adapter onto the same model, and gives the logits that we give."""
    posterior, adapter = folder.parent / "posterior.safetensors", folder.parent / f"adapter{len(prompt)}"
    header = {"spec": {"model": str(folder)}, "model": host.info()._asdict()}
    vectors = {place: values.cpu() for place, values in prompt.items()}
    save_posterior(posterior, Posterior(header, vectors, vectors, {}))
    export_adapter(posterior, adapter)
    ours: Any = host
    adapted: Any = PeftModel.from_pretrained(_oracle(folder), adapter).eval()
    tokens = [5, 17, 40, 9, 23, 61, 77, 8]
    given = 3 if host.info().stack == "encoder" else 1
    marks = [i >= given for i in range(len(tokens))]
    row = Row("text", tokens, marks, marks)
    if host.info().stack == "encoder":
        read = torch.tensor([[ours.start, *tokens[given:-1]]])
        logits = adapted(input_ids=torch.tensor([tokens[:given]]), decoder_input_ids=read).logits[0]
    else:
        logits = adapted(input_ids=torch.tensor([tokens])).logits[0, -8:-1]
    assert_close(ours.logits(prompt, collate([row])), logits)


def table(matrix: Mapping[str, Found]) -> str:
    """The block of the page: a row per family, and a note for each refusal."""
    notes: list[str] = []
    rows = [f"| family | {' | '.join(f'{part}' for part in PARTS)} |", "|---|" + "---|" * len(PARTS)]
    for name, parts in matrix.items():
        rows.append(f"| {name} | {' | '.join(_cell(parts[part], notes) for part in PARTS)} |")
    told = [f"{i}. {note}" for i, note in enumerate(notes, 1)]
    return "\n".join(["", *rows, "", "The refusals, as softprior words them:", "", *told, "", ""])


def _cell(refusal: str | None, notes: list[str]) -> str:
    if refusal is None:
        return "works"
    if refusal not in notes:
        notes.append(refusal)
    return f"refused ({notes.index(refusal) + 1})"


def written(page: str) -> Iterator[tuple[str, Found]]:
    """What the page says of each family."""
    (block,) = BLOCK.findall(page)
    notes = dict(re.findall(r"^(\d+)\. (.+)$", block[1], re.MULTILINE))
    for line in re.findall(r"^\| (?!family )([^|]+) \|(.+)\|$", block[1], re.MULTILINE):
        cells = [re.fullmatch(r"works|refused \((\d+)\)", cell.strip()) for cell in line[1].split("|")]
        said = [None if cell is None or cell[1] is None else notes[cell[1]] for cell in cells]
        yield line[0], dict(zip(PARTS, said, strict=True))


if __name__ == "__main__":
    torch.set_num_threads(1)  # as in tests: on a busy machine two threads of small sums wait for each other
    text = PAGE.read_text(encoding="utf-8")
    block = table({name: found(family) for name, family in FAMILIES.items()})
    PAGE.write_text(BLOCK.sub(lambda match: match[1] + block + match[3], text), encoding="utf-8")
