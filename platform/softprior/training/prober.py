"""Probes the final prompt of a trial; see `probes`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float, Int
from torch import Tensor

from softprior.assets.tokens import Tokenizer, vocabulary_ids
from softprior.errors import UserError
from softprior.inputs.specs import Probe, TrialSpec
from softprior.liveness import alive
from softprior.models.protocol import FrozenLM
from softprior.prompt import Batch, Place, Prompt, collate
from softprior.results.probed import Attended, Found, NearestTokens, Probed, Projection, Removal
from softprior.results.provenance import SOURCES
from softprior.seeding import torch_generator
from softprior.statistics.geometry import nearest
from softprior.tasks.batching import evaluation_batches
from softprior.tasks.prepared import PreparedSplit
from softprior.training.attended import attended
from softprior.training.checkpoint import TrialState
from softprior.training.evaluation import Evaluator
from softprior.training.events import Phase, Report
from softprior.training.failure import TrialFailedError, require_finite
from softprior.training.nearest_tokens import nearest_tokens
from softprior.training.probes import (
    DRAWS,
    EXAMPLES,
    NEIGHBOURS,
    PASSES,
    SHARE,
    lost,
    probed_place,
    probes_of,
    why_skipped,
)
from softprior.training.source import vocabulary


@dataclass(frozen=True)
class Prober:
    """Probes the final prompt of one trial.

    Attributes:
        spec: the trial.
        host, tokenizer: the frozen model.
        evaluator: of the trial, whose rows may have an instruction in front.
        test: its test split.
    """

    spec: TrialSpec
    host: FrozenLM
    tokenizer: Tokenizer
    evaluator: Evaluator
    test: PreparedSplit

    def at_end(self, initial: Prompt, final: Prompt, state: TrialState, report: Report) -> tuple[Probed, ...]:
        """All probes of a trial that has just been trained."""
        wanted = probes_of(self.spec)
        if not wanted:
            return ()
        with state.meter.phase("probes"):
            return self.measure_all(wanted, initial, final, state.step, report)

    def measure_all(
        self, probes: Sequence[Probe], initial: Prompt, final: Prompt, step: int, report: Report
    ) -> tuple[Probed, ...]:
        """The result of each probe, or why there is none; reports each as it begins."""
        found = []
        for probe in probes:
            report(Phase(step, f"probing: {probe}"))
            found.append(self.measure(probe, initial, final, step))
        return tuple(found)

    def measure(self, probe: Probe, initial: Prompt, final: Prompt, step: int) -> Probed:
        """The result of one probe, or why there is none.

        Args:
            initial: the untrained sample.
            step: of the trained prompt, for errors.
        """
        skipped = why_skipped(probe, final, min(map(len, final.values())))
        if skipped is not None:
            return Probed(probe=probe, skipped=skipped, sources=SOURCES)
        make: Mapping[Probe, Callable[[Prompt, Prompt, int], Found]] = {
            "removal": self.removal,
            "projection": self.projection,
            "nearest": self.nearest,
            "attention": self.attention,
        }
        try:
            found = make[probe](initial, final, step)
        except (UserError, TrialFailedError) as error:
            return lost(probe, str(error))
        except Exception as error:  # such as memory: the trial itself is finished
            return lost(probe, f"{type(error).__name__}: {error}")
        examples = self.count if PASSES[probe] else 0
        return Probed(probe=probe, found=found, examples=examples, sources=SOURCES)

    def removal(self, initial: Prompt, final: Prompt, step: int) -> Removal:
        """Losses without the nearest, the farthest and random vectors of a place.

        Random ones depend on the trial's seed alone, so that priors lose the same vectors.
        """
        place = _probed(final)
        count = len(final[place])
        removed = max(1, count // SHARE)
        order = nearness(final[place], vocabulary(self.host, self.tokenizer)).argsort(stable=True)
        near, far = order[:removed], order[-removed:]

        def without(rows: Int[Tensor, "K"]) -> float:
            kept = torch.ones(count, dtype=torch.bool).index_fill(0, rows, False)
            return self.loss({**final, place: final[place][kept]}, step)

        def put_back(rows: Int[Tensor, "K"]) -> float:
            vectors = final[place].index_copy(0, rows, initial[place].to(final[place])[rows])
            return self.loss({**final, place: vectors}, step)

        draws = [torch.randperm(count, generator=self._drawn("removal", i))[:removed] for i in range(DRAWS)]
        random = tuple(map(without, draws))
        return Removal(
            removed=removed,
            loss=self.loss(final, step),
            near=without(near),
            far=without(far),
            random=sum(random) / DRAWS,
            random_draws=random,
            near_untrained=put_back(near),
            far_untrained=put_back(far),
        )

    def projection(self, initial: Prompt, final: Prompt, step: int) -> Projection:
        """Outputs under the nearest tokens, those of the untrained sample, and random tokens.

        Random ones depend on the trial's seed alone.
        """
        place, table = _probed(final), vocabulary(self.host, self.tokenizer)
        distances, own = (found[:, 0] for found in nearest(final[place], table))
        start = nearest(initial[place], table)[1][:, 0]
        count = (len(final[place]),)

        def told(rows: Int[Tensor, "P"]) -> tuple[float, float, float]:
            prompt = {**final, place: table[rows].to(final[place])}
            return self.loss(prompt, step), *self._compared(final, prompt, step)

        draws = [
            told(torch.randint(len(table), count, generator=self._drawn("projection", i)))
            for i in range(DRAWS)
        ]
        loss, divergence, agreement = told(own)
        untrained = told(start)
        random = tuple(sum(column) / DRAWS for column in zip(*draws, strict=True))
        ids = vocabulary_ids(self.tokenizer, self.host.info().vocabulary)
        return Projection(
            distance=float(distances.mean()),
            tokens=tuple(ids[i] for i in own.tolist()),
            loss=loss,
            divergence=divergence,
            agreement=agreement,
            untrained_loss=untrained[0],
            untrained_divergence=untrained[1],
            untrained_agreement=untrained[2],
            random_loss=random[0],
            random_divergence=random[1],
            random_agreement=random[2],
        )

    def nearest(self, initial: Prompt, final: Prompt, step: int) -> NearestTokens:  # noqa: ARG002
        """The nearest tokens in three metrics; no text goes forward.

        Random ones depend on the trial's seed alone.
        """
        place, table = _probed(final), vocabulary(self.host, self.tokenizer)
        ids = vocabulary_ids(self.tokenizer, self.host.info().vocabulary)
        count = (len(final[place]),)
        draws = [torch.randint(len(table), count, generator=self._drawn("nearest", i)) for i in range(DRAWS)]
        return nearest_tokens(initial[place].cpu(), final[place].cpu(), table, ids, draws)

    def attention(self, initial: Prompt, final: Prompt, step: int) -> Attended:
        """Shares of attention under the trained prompt, under the untrained sample, and without a prompt."""
        return attended(self.host, initial, final, self._batches, step)

    @property
    def count(self) -> int:
        """Number of test examples, the first of the split."""
        return min(EXAMPLES, self.spec.evaluation.examples, len(self.test))

    @cached_property
    def _batches(self) -> list[Batch]:
        rows = [self.evaluator.prefixed(self.test.row(i)) for i in range(self.count)]
        lengths = [len(row.tokens) for row in rows]
        return [
            collate([rows[i] for i in indices])
            for indices in evaluation_batches(lengths, self.spec.evaluation.batch)
        ]

    @property
    def _labels(self) -> int:
        return sum(int(batch.labels.sum()) for batch in self._batches)

    def _drawn(self, probe: Probe, draw: int) -> torch.Generator:
        assert self.spec.seed is not None
        return torch_generator(self.spec.seed, "probe", probe, draw)

    def loss(self, prompt: Prompt, step: int = 0) -> float:
        """Mean negative log-likelihood of the label tokens of the probes' examples, in nats.

        Raises:
            TrialFailedError: it is not finite.
        """
        total = 0.0
        for batch in self._batches:
            total += float(self.host.loss(prompt, batch).nll.double().sum())
            alive()
        require_finite(step, "loss of a probe", total)
        return total / self._labels

    def _compared(self, one: Prompt, other: Prompt, step: int) -> tuple[float, float]:
        """Mean divergence and share of agreement over label tokens."""
        divergence, agree = 0.0, 0
        for batch in self._batches:
            found = self.host.compare(one, other, batch)
            alive()
            divergence += float(found.divergence.double().sum())
            agree += int(found.agree.sum())
        require_finite(step, "divergence of a probe", divergence)
        return divergence / self._labels, agree / self._labels


def _probed(prompt: Prompt) -> Place:
    place = probed_place(prompt)
    assert place is not None
    return place


def nearness(vectors: Float[Tensor, "P H"], tokens: Float[Tensor, "V H"]) -> Float[Tensor, "P"]:
    """Euclidean distance of each vector to its tenth nearest token."""
    distances: Tensor = nearest(vectors, tokens, min(NEIGHBOURS, len(tokens)))[0][:, -1]
    return distances
