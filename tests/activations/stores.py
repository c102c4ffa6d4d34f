"""Small statistics stores of synthetic vectors whose answers are known."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from softprior.activations.prompts import PROMPT
from softprior.activations.texts import key_of
from softprior.seeding import derive, torch_generator
from softprior.statistics.moments import RunningMoments
from softprior.statistics.norms import NormSketch
from softprior.statistics.store import SiteStatistics, Tables, save_statistics
from softprior.statistics.units import PROMPTS
from softprior.tasks.parts import PARTS
from tests.statistics.one_text import step, trace

DOCUMENTS, TOKENS, WIDTH, ANSWER = 60, 20, 8, 5
"""Documents of a task, tokens of each, dimensions, and how many tokens the answer at the end has."""


def normal(*shape: int, seed: object = 0) -> Tensor:
    return torch.randn(*shape, generator=torch_generator(0, "store", str(seed)))


def statistics(
    vectors: Tensor, facts: dict[str, Tensor], sinks: int = 0, sample: int = 1000
) -> SiteStatistics:
    """As the job writes them."""
    moments, norms = RunningMoments(vectors.shape[1]), NormSketch()
    moments.add(vectors)
    norms.add(vectors.norm(dim=1))
    pairs = zip(facts["document"].tolist(), facts["position"].tolist(), strict=True)
    key = torch.tensor([derive(0, "key", *pair) for pair in pairs])
    kept = key.argsort()[:sample]
    return SiteStatistics(
        moments=moments.moments,
        documents=len(facts["document"].unique()),
        sinks=sinks,
        sample=vectors[kept],
        facts={name: column[kept] for name, column in (facts | {"key": key}).items()},
        norms=norms,
        dimensions=moments.dimensions,
    )


def write(
    folder: Path,
    task: str,
    site: str,
    texts: Tensor,
    *,
    answers: bool = True,
    groups: Tensor | None = None,
    sinks: Tensor | None = None,
    shuffled: Tensor | None = None,
    sample: int = 1000,
    words: Tensor | None = None,
    articles: Tensor | None = None,
    uncounted: Tensor | None = None,
) -> None:
    """Writes the file of a task and site.

    Args:
        texts: the tokens of each document [G T D], sinks left out.
        answers: the last `ANSWER` tokens of a document are its answer.
        groups: the group of each document.
        sinks: vectors of sinks.
        shuffled: states of the same texts shuffled; None: the same vectors in another order.
        words: token ids [G T]; None: all different.
        articles: the document of each text in the table of texts; None: its own.
        uncounted: tokens of each shuffled text that are massive there alone.
    """
    number, length, width = texts.shape
    document = torch.arange(number).repeat_interleave(length) + derive(0, task) % 10**9
    position = torch.arange(length).repeat(number) + 1
    part = torch.zeros(number * length, dtype=torch.int64)
    if answers:
        part[position > length - ANSWER] = PARTS.index("answer")
    of_text = torch.full((number,), -1) if groups is None else groups
    facts = {
        "document": document,
        "position": position,
        "part": part,
        "token": torch.arange(number * length) if words is None else words.flatten(),
        "group": of_text.repeat_interleave(length),
    }
    vectors = texts.reshape(-1, width)
    classes, parts = {}, []
    for index, name in enumerate(PARTS):
        own = part == index
        if own.any():
            parts.append(name)
            found = {fact: column[own] for fact, column in facts.items()}
            classes[name] = statistics(vectors[own], found, 0 if sinks is None else len(sinks), sample)
    if sinks is not None:
        count = torch.arange(len(sinks))
        classes["sinks"] = statistics(sinks, {"document": count, "position": 0 * count})
    means = {"document": document[::length], "position": 0 * of_text - 1, "group": of_text}
    classes["mean"] = statistics(texts.mean(1), means, sample=sample)

    other = texts if shuffled is None else shuffled
    orders = [torch.randperm(length, generator=torch_generator(0, "order", i)) for i in range(number)]
    rows = [(i, 0, texts[i]) for i in range(number)] + [(i, 1, other[i][orders[i]]) for i in range(number)]
    ends, spans = slice(length - ANSWER, length), slice(1, 1 + ANSWER)
    nan = float("nan")
    sequences = {
        "text": torch.tensor([i for i, _, _ in rows]),
        "shuffled": torch.tensor([s for _, s, _ in rows]),
        "document": document[::length].repeat(2) if articles is None else articles.repeat(2),
        "tokens": torch.full((len(rows),), length),
        "trace": torch.tensor([trace(states) for _, _, states in rows], dtype=torch.float64),
        "step": torch.tensor([step(states) for _, _, states in rows], dtype=torch.float64),
        "answer": torch.tensor([trace(v[ends]) if answers and not s else nan for _, s, v in rows]).double(),
        "span": torch.tensor([trace(v[spans]) if answers and not s else nan for _, s, v in rows]).double(),
    }
    if uncounted is not None:
        sequences["tokens"][number:] -= uncounted
    first = slice(0, 3 * length)
    paths = {"text": document[first], "position": position[first], "token": facts["token"][first]}
    paths |= {"part": part[first], "vectors": vectors[first]}
    names = {} if groups is None else {f"module_{g}": groups == g for g in groups.unique().tolist()}
    tables = Tables(
        groups={
            name: (int(own.sum()) * length, texts[own].mean((0, 1)).double()) for name, own in names.items()
        },
        sequences=sequences,
        paths=paths,
    )
    save_statistics(folder, task, site, "model", classes, {"all": parts}, tables, {"documents": number})


def write_vocabulary(folder: Path, count: int = 300) -> None:
    """The vocabulary, as the job writes it, of no token that a task's texts have."""
    ids = torch.arange(count) + 10**6
    facts = {"document": ids, "position": 0 * ids - 1, "part": 0 * ids, "token": ids, "group": 0 * ids - 1}
    found = {"input": statistics(normal(count, WIDTH, seed="vocabulary"), facts)}
    save_statistics(folder, "vocabulary", "resid.0", "model", found, {"all": ["input"]})


def write_prompts(folder: Path, site: str, prompts: dict[str, Tensor], cut: int = 0) -> None:
    """Prompts at a site, as the job writes them; the first `cut` vectors of each are cut after its block."""
    columns: dict[str, list[Tensor]] = {"document": [], "position": [], "cut": []}
    for name, vectors in prompts.items():
        count = torch.arange(len(vectors))
        columns["document"].append(torch.full_like(count, key_of(name)))
        columns["cut"].append((count < cut).long())
        columns["position"].append(torch.where(count < cut, count, count - cut))
    facts = {name: torch.cat(parts) for name, parts in columns.items()}
    own = torch.arange(len(facts["cut"]))
    facts["key"] = own.flip(0)  # stores have them in an order that says nothing
    found = statistics(torch.cat(list(prompts.values())), facts | {"position": own})
    found.facts["position"] = facts["position"][found.facts["position"]]
    means = {name: (len(vectors), vectors.mean(0).double()) for name, vectors in prompts.items()}
    save_statistics(folder, PROMPTS, site, "model", {PROMPT: found}, tables=Tables(groups=means))
