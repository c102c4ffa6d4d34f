"""Claims and findings as values. docs/findings.md says how to read them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from analysis.inference.values import ANY, Interval, Range

Verdict = Literal["supported", "contradicted", "undecided", "depends on the metric"]


@dataclass(frozen=True, kw_only=True)
class Claim:
    """A statement about trials, and how a study decides it.

    Attributes:
        name: short, for files and tables.
        number: in the list of claims that was written down before any study ran.
        words: the claim. Every sentence about it begins with them.
        primary: the number that decides.
        unit: what is repeated: a test or an interval is over these.
        rule: when a study supports the claim, contradicts it, or leaves it undecided.
        margin: how large a difference has to be.
        quantity: the unit of the primary number, such as nats.
        possible: what the primary number can be; intervals do not go beyond it.
        metrics: what its several numbers differ in, where the verdict depends on it.
        formerly: rules in other words, which studies may have planned; they decide as `rule` does.
    """

    name: str
    number: int
    words: str
    primary: str
    unit: str = "Seeds."
    rule: str
    margin: str = "None."
    quantity: str = ""
    possible: Range = ANY
    metrics: str = "the metric"
    formerly: tuple[str, ...] = ()

    def decides_as(self, rule: str | None) -> bool:
        """Whether a rule that a study planned is this claim's, in these words or in earlier ones."""
        return rule in (self.rule, *self.formerly)


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """One number of a claim with its test: of two priors, of one metric, or of one prior.

    Attributes:
        what: what is compared, such as `fitted - isotropic`, or the metric.
        value: mean over seeds, in the claim's `quantity`.
        interval: 95%, over seeds.
        equivalence: 90%, where equality is tested.
        wider: 95%, for other seeds and other examples of the same kind, which are paired and clustered by
            article, module or document; None where single examples are not known.
        seeds: number of seeds that have both sides.
        trials: ids of the trials that the number comes from.
        test: name of the test.
        p: raw, two-sided.
        adjusted: by Holm over all tests of the study's planned claims; of an exploratory finding over those
            of all exploratory ones.
        least_p: the smallest p that the test can give with these seeds; 0 for tests without such a limit.
        detectable: the smallest true effect that the study would have found with 80% power, at the level that
            Holm's correction asks of the first test: a distance from the rule's limit; of equality the
            difference that would have been shown to lie outside the margin. None where these seeds give no p
            as small as that, and where the test is not of the number itself.
        referenced: whether it is with the study's first prior, where all pairs are compared.
        more_seeds: seeds to add at this effect and spread to find it with 80% power, at the same level; of
            equality, to show it, or if the difference is larger than the margin, that it lies beyond. None
            where no number up to 1,000 would do.
    """

    what: str
    value: float
    interval: Interval
    equivalence: Interval | None = None
    wider: Interval | None = None
    seeds: int
    trials: tuple[str, ...] = ()
    test: str
    p: float
    adjusted: float
    least_p: float
    detectable: float | None = None
    referenced: bool = True
    more_seeds: int | None = None


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What a study says about one claim in one of its cells.

    Attributes:
        claim: the claim.
        where: task, method and regularisers, and the prior where each has a finding of its own.
        verdict: by the claim's rule.
        comparisons: all numbers that the rule looks at; empty where the study lacks an axis.
        primary: the comparison that decides, or comes nearest to it; None where there is none: the claim is
            not judged.
        others: the numbers that have to agree with it, where the claim has several metrics.
        margin: of equality, in nats; None for claims without.
        margin_trials: ids of the trials that it comes from, the baseline among them.
        rates: the rate chosen on validation for each prior (or method).
        budget: number of rates that each was tuned over.
        noise: root mean square of the differences of this number between trials and their twins, which
            differ by rounding alone, for one seed; None where the study has no twins of these trials.
        twins: ids of these twins.
        limit: what the number is compared with.
        claimed: where the claim says that its numbers lie, such as `below 0.5`.
        reason: why the claim is undecided whatever the numbers say; empty if they decide.
        settle: what would settle it; empty if it is settled.
        exploratory: whether the claim was not in the study's list when it started, or the number rests on
            seeds, priors or steps that were added later.
        added: these in words; empty without any.
        sentence: the finding in words.
    """

    claim: Claim
    where: str
    verdict: Verdict
    comparisons: tuple[Comparison, ...] = ()
    primary: Comparison | None = None
    others: tuple[Comparison, ...] = ()
    margin: float | None = None
    margin_trials: tuple[str, ...] = ()
    rates: Mapping[str, str] = field(default_factory=dict)
    budget: Mapping[str, int] = field(default_factory=dict)
    noise: float | None = None
    twins: tuple[str, ...] = ()
    limit: float = 0.0
    claimed: str = ""
    reason: str = ""
    settle: str = ""
    exploratory: bool = True
    added: str = ""
    sentence: str = ""

    @property
    def decided(self) -> str:
        """The verdict in words; without a number, there is none."""
        if self.primary is None:
            return "not judged"
        if self.verdict == "depends on the metric":
            return f"depends on {self.claim.metrics}"
        return self.verdict

    @property
    def effect(self) -> float:
        """Distance of the number that decides from the rule's limit; nan where there is none."""
        return abs(self.primary.value - self.limit) if self.primary is not None else math.nan

    @property
    def seeds(self) -> int:
        """Number of seeds of the comparison that decides."""
        return 0 if self.primary is None else self.primary.seeds
