"""The claims that activations are judged by: their words and rules, as docs/claims.md explains them."""

from __future__ import annotations

from dataclasses import dataclass

LEVEL = 0.05
"""Corrected p-values up to this one count."""


@dataclass(frozen=True, kw_only=True)
class Claim:
    """A statement about activations, and how it is decided at each site.

    Attributes:
        words: the claim. Every line of the output about it begins with them.
        number: the primary number.
        unit: what is repeated: a test or an interval is over these.
        null: what the number is compared with.
        rule: when a site supports the claim, contradicts it, or leaves it undecided.
        margin: how large a difference has to be.
        missing: why nothing can be said if no site has the number; empty if the claim is then left out.
    """

    words: str
    number: str
    unit: str
    null: str
    rule: str
    margin: str
    missing: str = ""


TRAJECTORIES = Claim(
    words="Trajectories are not localised",
    number="The trace of the covariance of a text's tokens divided by that of its null: the geometric mean "
    "over documents.",
    unit="Documents. The log ratios of the texts of a document are averaged first.",
    null="The same texts with their tokens shuffled (all but the first), run through the model. At "
    "`resid.0`, where shuffling does not change the trace, it is as many independent draws of the "
    "task's tokens.",
    rule="A site contradicts the claim (narrower) if the 95% interval lies below 1 and Holm's p over the "
    f"task's sites is at most {LEVEL} (Wilcoxon's signed-rank test). It supports the claim (wider) if the "
    f"interval lies above 1 and p is at most {LEVEL}. Otherwise the site is undecided.",
    margin="None. A ratio of 1.01 counts if its interval excludes 1, so read the size as well.",
    missing="no text was also read shuffled",
)

CLUSTERS = Claim(
    words="Tasks form clusters of their own",
    number="MMD^2 between two tasks on equally many tokens at similar positions.",
    unit="Documents. Each document of one task is paired with one or more of the other.",
    null="Pairs of documents swap sides; tokens are compared within bins of positions.",
    rule=f"A site supports the claim (separated) if Holm's p over the pair's sites is at most {LEVEL}. "
    "Otherwise the site is undecided: a test cannot show that two tasks share a cluster.",
    margin="None. The line gives MMD^2 with its 95% interval, and how often a linear probe is right on "
    "held-out tokens.",
    missing="it takes two tasks with some documents each",
)

BEYOND_WORDS = Claim(
    words="Tasks differ beyond their words",
    number="The difference of kernel means (MMD^2) between tokens that have the same id in both tasks.",
    unit="Documents, paired in the same way.",
    null="Pairs of documents swap sides; tokens are compared within token ids and three bins of positions.",
    rule=f"A site supports the claim if Holm's p over the pair's sites is at most {LEVEL}. Otherwise the "
    "site is undecided. At `resid.0` nothing can remain, because equal tokens have equal embeddings.",
    margin="None. The line also says how well token ids alone tell the tasks apart in held-out documents.",
)

NEAREST = Claim(
    words="One pair of tasks is nearest",
    number="The smallest MMD^2 of all pairs of three or more tasks, and by how much the next one is larger. "
    "All pairs use one kernel.",
    unit="Documents of all tasks, resampled together.",
    null="Another pair is just as near: p is twice the share of resamples in which one is.",
    rule=f"A site supports the claim for its nearest pair if Holm's p over the sites is at most {LEVEL}. "
    "Otherwise the site is undecided.",
    margin="None. The line gives the difference to the next pair with its 95% interval.",
)

GROUPS = Claim(
    words="Groups of a task lie apart",
    number="The share of the variance of text means that lies between the groups of a task.",
    unit="Documents. The group is that of the document.",
    null="The groups of documents are permuted.",
    rule=f"A site supports the claim if Holm's p over the task's sites is at most {LEVEL}. Otherwise the "
    "site is undecided.",
    margin="None. The line gives the share in permutations (their mean and 95% quantile).",
)

ONE_MODE = Claim(
    words="Activations have one mode",
    number="Hartigan's dip of the sample along each of the first five principal components.",
    unit="Documents. p combines 50 draws of one token per document.",
    null="The uniform distribution: of all distributions with one mode, the one with the largest dips.",
    rule="A site contradicts the claim (rejected) if the smallest of Holm's p over the task's sites and "
    f"components is at most {LEVEL}. Otherwise the site is undecided: the test cannot show that there is "
    "one mode.",
    margin="None. The line gives the largest rejected dip; 0.25 is the largest that exists.",
    missing="no sample could be tested",
)

ANSWERS = Claim(
    words="Answer tokens lie close together",
    number="The trace of the covariance of an answer's tokens divided by that of random spans of the same "
    "text: the geometric mean over documents.",
    unit="Documents. The log ratios of the texts of a document are averaged first.",
    null="Eight random spans before the answer, each with as many tokens. They have other words than the "
    "answer, so the model need not be the cause.",
    rule="A site supports the claim (closer together) if the 95% interval lies below 1 and Holm's p over "
    f"the task's sites is at most {LEVEL} (Wilcoxon's signed-rank test). It contradicts the claim "
    f"(farther apart) if the interval lies above 1 and p is at most {LEVEL}. Otherwise the site is "
    "undecided.",
    margin="None. Any ratio counts if its interval excludes 1.",
    missing="no text has an answer of two tokens and room for a span before it",
)

GAUSSIAN = Claim(
    words="A fitted Gaussian misrepresents the data",
    number="The standard deviation of the Mahalanobis radii of the sample under the fitted Gaussian, divided "
    "by that of Gaussian data.",
    unit="Documents; draws for the Gaussian data.",
    null="As many draws from a Gaussian with the mean and covariance of the data, fitted in the same way.",
    rule="A site supports the claim (narrower or wider) if the 95% interval excludes 1. Otherwise the site "
    "is undecided. There is no test, and intervals are not corrected over sites.",
    margin="None. The line also compares held-out log-likelihoods, which show a wrong covariance but not a "
    "wrong shape.",
    missing="no task has tokens enough for its dimensions",
)

CLAIMS = (TRAJECTORIES, CLUSTERS, BEYOND_WORDS, NEAREST, GROUPS, ONE_MODE, ANSWERS, GAUSSIAN)
"""In the order of the output."""
