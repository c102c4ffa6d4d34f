"""What probes of a trial's final prompt measured, as its record has it."""

from __future__ import annotations

from softprior.inputs.base import Spec
from softprior.inputs.specs import Probe


class Removal(Spec):
    """Test losses of the trained prompt without some of its vectors; it is shorter by these.

    Near and far are measured by the distance of claim 2 (docs/findings.md): the Euclidean distance to the
    tenth nearest token. All losses are means over the label tokens of the same examples, in nats.

    Attributes:
        removed: number of vectors removed, a quarter of all, at least one.
        loss: with all vectors.
        near, far: without those nearest to the vocabulary, and without those farthest from it.
        random: mean over several draws of vectors that are removed.
        random_draws: of each draw.
        near_untrained, far_untrained: with the nearest or farthest put back to where they started, which
            moves no position.
    """

    removed: int
    loss: float
    near: float
    far: float
    random: float
    random_draws: tuple[float, ...]
    near_untrained: float
    far_untrained: float


class Projection(Spec):
    """A prompt of nearest tokens (Euclidean) in place of the trained vectors, and prompts of other tokens.

    Divergence and agreement compare the outputs under a prompt of tokens with those under the trained prompt,
    at the label tokens: the mean Jensen-Shannon divergence in nats (at most ln 2), and the share of label
    tokens where both have the same first choice.

    Attributes:
        distance: mean distance from a trained vector to its token.
        tokens: ids of the tokens.
        loss, divergence, agreement: of the prompt of these tokens.
        untrained_loss, untrained_divergence, untrained_agreement: of the tokens nearest to the untrained
            sample.
        random_loss, random_divergence, random_agreement: of random tokens, means over several draws.
    """

    distance: float
    tokens: tuple[int, ...]
    loss: float
    divergence: float
    agreement: float
    untrained_loss: float
    untrained_divergence: float
    untrained_agreement: float
    random_loss: float
    random_divergence: float
    random_agreement: float


class NearestTokens(Spec):
    """The tokens nearest to a prompt's vectors in three metrics, and the same of vectors that know nothing.

    Attributes:
        l2, cosine, dot: Euclidean distance to the nearest token, largest cosine and largest dot product with
            a token, means over the vectors.
        untrained_l2, untrained_cosine, untrained_dot: of the untrained sample.
        random_l2, random_cosine, random_dot: of random tokens, each with the other tokens; means over several
            draws.
        same_l2, same_cosine, same_dot: share of the vectors whose nearest token is that of their start.
        tokens_l2, tokens_cosine, tokens_dot: ids of the nearest tokens, by vector.
    """

    l2: float
    cosine: float
    dot: float
    untrained_l2: float
    untrained_cosine: float
    untrained_dot: float
    random_l2: float
    random_cosine: float
    random_dot: float
    same_l2: float
    same_cosine: float
    same_dot: float
    tokens_l2: tuple[int, ...]
    tokens_cosine: tuple[int, ...]
    tokens_dot: tuple[int, ...]


class Attended(Spec):
    """Where the model looks when it predicts labels: shares of attention.

    Means over label tokens, heads and blocks; a block without vectors gives 0 to them. The first position is
    where models tend to put attention that they have no use for (a sink): with a prompt in front that is its
    first vector, without one the text's first token.

    Attributes:
        prompt: share on all prompt vectors.
        prompt_first, text_first: share on the prompt's first vector, and on the text's first token.
        even: share on the prompt if all that can be seen got the same, sliding windows aside.
        untrained_prompt, untrained_prompt_first, untrained_text_first: of the untrained sample.
        without_text_first: on the text's first token, without a prompt.
        blocks: `prompt`, `prompt_first` and `text_first` of each block.
        untrained_blocks: the same of the untrained sample.
    """

    prompt: float
    prompt_first: float
    text_first: float
    even: float
    untrained_prompt: float
    untrained_prompt_first: float
    untrained_text_first: float
    without_text_first: float
    blocks: tuple[tuple[float, float, float], ...]
    untrained_blocks: tuple[tuple[float, float, float], ...]


Found = Removal | Projection | NearestTokens | Attended

_KINDS: dict[Probe, type[Spec]] = {
    "removal": Removal,
    "projection": Projection,
    "nearest": NearestTokens,
    "attention": Attended,
}

PROBE_NUMBERS: dict[Probe, tuple[str, ...]] = {
    probe: tuple(name for name, field in kind.model_fields.items() if field.annotation is float)
    for probe, kind in _KINDS.items()
}
"""The numbers of each probe, which tables have as `PROBE/NUMBER`."""


class Probed(Spec):
    """A trial's final prompt under one of `evaluation.probes`, or why there are no numbers.

    Attributes:
        probe: its name.
        found: the numbers.
        examples: number of test examples behind them, the first of the split; 0 where no text goes forward.
        skipped: why the probe means nothing for this prompt.
        error: why it could not be made; the next run tries again.
        sources: the code that made it (`provenance.SOURCES`), perhaps later than the trial's.
    """

    probe: Probe
    found: Found | None = None
    examples: int = 0
    skipped: str | None = None
    error: str | None = None
    sources: str
