"""The interface: what a trial may ask of a frozen model, wherever its weights are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple, Protocol, TypeVar, runtime_checkable

from jaxtyping import Float, Int
from torch import Tensor

from softprior.prompt import Batch, Place, Prompt, Stack


class ModelInfo(NamedTuple):
    """Facts about a frozen model.

    Attributes:
        family: transformers' `model_type`.
        stack: the stack that reads the input, where prompts stand: `encoder` if the model has one.
        blocks: number of blocks of that stack, L.
        hidden: width of the residual stream, H.
        vocabulary: number of rows of the embedding table, V.
        parameters: number of weights, embeddings included.
        positions: longest sequence the model was built for; prompt vectors count.
        embedding: `rotary` or `learned` positions (or `other`).
        fingerprint: identifies the weights.
        dtype: of weights and activations.
        embedding_factor: what the model multiplies input embeddings by in front of block 0 (12 for Granite).
        steady: longest sequence whose rotation is that of a short one; None where length plays no part.
        device: what it runs on, `cpu` or `cuda`.
        kernels: how its attention and blocks are computed: `padded`, `chunked` (`auto` on CPUs), `ragged`
            (`auto` on GPUs) or `compiled`.
        frozen_cache: whether losses start at the first block with vectors where they can.
        lanes: number of passes that it may run side by side, at most, see `models.lanes`.
        computing: with what it is computed in the process that holds it: machine, processor or GPU, number of
            threads, and of ranks if it is sharded.
    """

    family: str
    stack: Stack
    blocks: int
    hidden: int
    vocabulary: int
    parameters: int
    positions: int
    embedding: Literal["rotary", "learned", "other"]
    fingerprint: str
    dtype: str
    embedding_factor: float = 1.0
    steady: int | None = None
    device: str = "cpu"
    kernels: Literal["padded", "chunked", "ragged", "compiled"] = "padded"
    frozen_cache: bool = False
    lanes: int = 1
    computing: str = ""


class Losses(NamedTuple):
    """Per row of a batch, summed over its labels; nothing is averaged.

    Attributes:
        nll: negative log-likelihood of the labels, in nats.
        tokens: number of labels.
        correct: scored labels that were the model's first choice (teacher forced).
        scored: number of scored labels.
        gradient: of `sum_b weights[b] * nll[b]` at every place, float32; None when not asked for.
    """

    nll: Float[Tensor, "B"]
    tokens: Int[Tensor, "B"]
    correct: Int[Tensor, "B"]
    scored: Int[Tensor, "B"]
    gradient: dict[Place, Float[Tensor, "_ _"]] | None


class Request(NamedTuple):
    """The arguments of `loss` as a value.

    Attributes:
        prompt, batch, grad: its arguments.
    """

    prompt: Prompt | None
    batch: Batch
    grad: bool = False


class Comparison(NamedTuple):
    """How far two prompts' outputs differ, per row, summed over its labels.

    Attributes:
        divergence: Jensen-Shannon divergence in nats, at most ln 2 per label.
        agree: labels where both prompts have the same first choice.
        tokens: number of labels.
    """

    divergence: Float[Tensor, "B"]
    agree: Int[Tensor, "B"]
    tokens: Int[Tensor, "B"]


class Attention(NamedTuple):
    """Where the predictions of labels look: shares of attention, summed over each row's labels.

    Of the position in front of each label, the mean over heads; a block without vectors gives 0 to them.

    Attributes:
        prompt: on all of the block's prompt vectors (kept, cut there, or its prefix).
        first: on the first of them.
        text: on the text's first token.
        tokens: number of labels.
    """

    prompt: Float[Tensor, "B L"]
    first: Float[Tensor, "B L"]
    text: Float[Tensor, "B L"]
    tokens: Int[Tensor, "B"]


class Where(NamedTuple):
    """Which text tokens a block of states belongs to.

    Attributes:
        rows: row of the batch.
        positions: position in the row's text, from 0; prompt vectors do not count.
        tokens: token id.
    """

    rows: Int[Tensor, "N"]
    positions: Int[Tensor, "N"]
    tokens: Int[Tensor, "N"]


@runtime_checkable
class SiteStatistic(Protocol):
    """A reduction over activations, fed where the weights are; it decides what to keep."""

    def update(self, site: str, states: Float[Tensor, "N H"], where: Where) -> None:
        """Takes the float32 states of N real text tokens at a site."""


StatisticT = TypeVar("StatisticT", bound=SiteStatistic)


@runtime_checkable
class FrozenLM(Protocol):
    """A frozen language model that works with any prompt and owns none.

    Every method takes text as right-padded batches; padding never changes a result beyond rounding.
    Prompts are in front of the text. At places with `placement: after_bos` they are behind its first token,
    which must be the same in all rows, with another token behind it. That first token sees no prompt, and
    what comes next is predicted from the last vector that is kept there, or from the first token itself.
    A host never normalises: weights per row let the caller decide what is averaged.
    """

    def info(self) -> ModelInfo:
        """Sizes and identity."""

    def embed(self, ids: Int[Tensor, "T"]) -> Float[Tensor, "T H"]:
        """What the model's own embedding layer returns, scaling included (site `resid.0`), float32.

        A residual prompt at block 0 is in these units, kept or cut: what the model does to embeddings after
        this layer (a factor, positions), the model or the host also does to the prompt.
        """

    def width(self, place: Place) -> int:
        """Dimension of the vectors at a place: H, or that of the block's keys or values, heads together.

        Raises:
            UserError: the model has no such place.
        """

    def normalise(self, place: Place, vectors: Float[Tensor, "N H"]) -> Float[Tensor, "N H"]:
        """The vectors after the first norm of the place's block, which is all that is seen of a cut prompt.

        At block 0 they are multiplied by the `embedding_factor` first.
        """

    def project(self, place: Place, states: Float[Tensor, "N H"]) -> Float[Tensor, "N D"]:
        """The keys (before rotary, after any norm of keys) or values the place's block makes of states.

        The states are in the residual stream at the block's input (site `resid.block`). If the model adds
        positions to embeddings, states at block 0 include them, although `resid.0` does not.
        """

    def rotate(
        self, place: Place, keys: Float[Tensor, "P D"], *, inverse: bool = False
    ) -> Float[Tensor, "P D"]:
        """Keys of `project` as attended to at positions 0 to P - 1, or back again.

        Raises:
            UserError: the model's family rotates keys in a way that the host does not know.
        """

    def loss(self, prompt: Prompt | None, batch: Batch, *, grad: bool = False) -> Losses:
        """Negative log-likelihood of the labels and, on request, the gradient at the prompt."""

    def generate(
        self, prompt: Prompt | None, batch: Batch, *, max_new: int, stop: frozenset[int]
    ) -> list[list[int]]:
        """Greedy continuations of every row, ending before the first token in `stop`."""

    def compare(self, a: Prompt | None, b: Prompt | None, batch: Batch) -> Comparison:
        """Divergence and first-choice agreement of the outputs under two prompts."""

    def attention(self, prompt: Prompt | None, batch: Batch) -> Attention:
        """Shares of attention on the prompt and on the text's beginning, by block.

        Raises:
            UserError: the model has an encoder, whose prompt no prediction looks at directly.
        """

    def sites(self) -> tuple[str, ...]:
        """Names of all sites that `observe` takes; `docs/notation.md` says where they are."""

    def observe(
        self, prompt: Prompt | None, batch: Batch, sites: Sequence[str], statistic: StatisticT
    ) -> StatisticT:
        """Feeds the states of all real text tokens at the sites to a statistic and returns it."""

    def prompt_states(
        self, prompt: Prompt, sites: Sequence[str], first: int | None = None
    ) -> dict[str, Float[Tensor, "_ H"]]:
        """The states of the prompt's own vectors at residual sites, float32.

        No text changes them, unless the family's rotation depends on the length (`ModelInfo.steady`): then
        they are those in front of one token.

        At `resid.l` these are the vectors cut at block l, followed by the states of the vectors kept from
        block 0 on. A site where the prompt has neither is left out; keys and values are not states.

        Args:
            first: the token that begins every text, for a prompt behind it.

        Raises:
            UserError: there is no such residual site, the model reads a prompt together with the text, its
                rotation would differ between blocks with and without cut vectors, or `first` is missing.
        """


@runtime_checkable
class PackingLM(FrozenLM, Protocol):
    """A host that takes the losses of several prompts in one pass."""

    def loss_many(self, requests: Sequence[Request], tokens: int | None = None) -> list[Losses]:
        """What `loss` returns for each request, up to rounding.

        Requests with the same number of vectors at the same places share passes; others take turns.

        Args:
            tokens: maximum number of positions per pass, prompts included, to which rows are split; None
                for no limit.
        """
