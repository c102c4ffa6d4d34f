"""From texts to tokens: special tokens around a text, answers joined to their inputs, and chunks."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any, ClassVar, NamedTuple, Protocol, TypedDict, overload, runtime_checkable

from softprior.errors import UserError

_ANSWERS = ("46", "-3/4", "word", "Two words", '"quoted"', "(a) b", "Äpfel", "世界")
"""Kinds of answers that tokenizers treat in different ways after a space."""
_INPUT = "What is 12 + 34?\nAnswer:"

_RESERVED = re.compile(
    r"""
      .*(unused|reserved|place.?holder|dummy).*\d.*   # <unused7>, [unused1], <|reserved_special_token_3|>
    | <special_\d+>                                   # Mistral's and Nemotron's
    | <\|extra_(id_)?\d+(_token)?\|>                 # with bars: T5's <extra_id_0> are trained
    """,
    re.IGNORECASE | re.VERBOSE | re.DOTALL,
)
_WORD = re.compile(r"[^\W_]")
"""A letter or digit."""
_JOINS_NEXT = re.compile(r"\n[^\n]*[^\W_]")
_JOINS_LAST = re.compile(r"[^\W_][^\n]*\n")
_SPANS = re.compile("[^ ] ")
_BRACKETED = re.compile(r"<.+>|\[.+\]|>>.+<<|\|\|\|.+\|\|\|", re.DOTALL)


class Encoded(TypedDict):
    """A text as tokens.

    Attributes:
        input_ids: the tokens.
        offset_mapping: where each of them begins and ends in the text, if that was asked for.
    """

    input_ids: list[int]
    offset_mapping: list[tuple[int, int]]


class EncodedTexts(TypedDict):
    """Several texts as tokens."""

    input_ids: list[list[int]]


@runtime_checkable
class Tokenizer(Protocol):
    """What softprior uses of the tokenizers of transformers."""

    @property
    def is_fast(self) -> bool: ...
    @property
    def bos_token_id(self) -> int | None: ...
    @property
    def eos_token_id(self) -> int | None: ...
    @property
    def eos_token(self) -> str | None: ...
    @property
    def all_special_ids(self) -> list[int]: ...

    def __len__(self) -> int: ...
    def __hash__(self) -> int: ...
    @overload
    def __call__(
        self,
        text: str,
        /,
        *,
        add_special_tokens: bool = True,
        return_offsets_mapping: bool = False,
        verbose: bool = True,
    ) -> Encoded: ...
    @overload
    def __call__(self, texts: list[str], /, *, verbose: bool = True) -> EncodedTexts: ...
    def decode(self, tokens: Sequence[int], /, *, skip_special_tokens: bool = False) -> str: ...
    def batch_decode(self, texts: Sequence[Sequence[int]], /) -> list[str]: ...
    def convert_ids_to_tokens(self, ids: list[int], /) -> Sequence[str | None]: ...
    def get_vocab(self) -> dict[str, int]: ...


class EncoderTokenizer:
    """A tokenizer whose inputs an encoder reads on their own, closed as texts are.

    A decoder reads the answers. Everything else is the tokenizer's own.
    """

    def __init__(self, inner: Tokenizer) -> None:
        self._inner = inner

    def __call__(self, *args: Any, **options: Any) -> Any:
        return self._inner(*args, **options)

    def __len__(self) -> int:
        return len(self._inner)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name == "_inner":  # asked by copy and pickle before there is an inner one
            raise AttributeError(name)
        return getattr(self._inner, name)


class NotJointError(UserError):
    """The tokens of an input and its answer are not those of the joined text.

    Attributes:
        note: under which examples that are left out for this reason are counted.
    """

    note: ClassVar[str] = "not_joint"


class AlikeError(NotJointError):
    """Two choices have the same tokens, so that no model can tell them apart."""

    note = "choices_alike"


class Around(NamedTuple):
    """Special tokens that a tokenizer puts before and after a text."""

    opening: tuple[int, ...]
    closing: tuple[int, ...]


@lru_cache(maxsize=8)
def around(tokenizer: Tokenizer) -> Around:
    """What the tokenizer puts around every text.

    Raises:
        UserError: its tokens of a text differ with and without special tokens.
    """
    whole = list(tokenizer("a")["input_ids"])
    plain = list(tokenizer("a", add_special_tokens=False)["input_ids"])
    for start in range(len(whole) - len(plain) + 1):
        if plain and whole[start : start + len(plain)] == plain:
            return Around(tuple(whole[:start]), tuple(whole[start + len(plain) :]))
    raise UserError(
        f"this model's tokenizer changes a text when it adds special tokens ('a' is {whole} with them and "
        f"{plain} without); save the tokenizer again with a post-processor that only adds tokens"
    )


def opened(tokenizer: Tokenizer, text: str) -> list[int]:
    """The tokens of a text that continues: with the tokenizer's opening tokens, without closing ones."""
    ids: list[int] = tokenizer(text, verbose=False)["input_ids"]
    return ids[: len(ids) - len(around(tokenizer).closing)]


def asked(tokenizer: Tokenizer, text: str) -> list[int]:
    """The tokens of an input that an answer follows.

    A decoder reads both one after another, so nothing closes the input; an encoder reads an input that is
    closed as its texts are.
    """
    closing = around(tokenizer).closing if isinstance(tokenizer, EncoderTokenizer) else ()
    return [*opened(tokenizer, text), *closing]


class Joined(NamedTuple):
    """An input and its answer as tokens.

    Attributes:
        before: the input with the tokens that open it, and those that close it if an encoder reads it.
        after: the answer, without the end-of-sequence token.
    """

    before: list[int]
    after: list[int]


def joined(tokenizer: Tokenizer, text: str, answer: str) -> Joined:
    """The tokens of an input, a space and an answer as one text, cut where the input ends.

    The input's tokens are those of the input alone, since that is what an answer is generated from. The
    answer's are the rest.

    Raises:
        NotJointError: the tokenizer merges the end of the input with the answer, or encodes a part of
            the answer as its end-of-sequence token.
    """
    before, whole = opened(tokenizer, text), opened(tokenizer, f"{text} {answer}")
    after = whole[len(before) :]
    if whole[: len(before)] != before:
        same = next(i for i, token in enumerate(before) if whole[i : i + 1] != [token])
        raise NotJointError(
            f"the tokenizer encodes the end of {text[-20:]!r} differently when the answer {answer[:20]!r} "
            f"follows, as {tokenizer.decode(before[same:])!r} becomes "
            f"{tokenizer.decode(whole[same : same + 1])!r}; end the input with other characters, or choose a "
            "model whose tokenizer keeps words apart"
        )
    if not after:
        raise NotJointError(
            f"the tokenizer has no tokens for the answer {answer[:20]!r}; remove the row, or choose another "
            "model"
        )
    if tokenizer.eos_token_id in after:
        raise NotJointError(
            f"the answer {answer[:40]!r} contains the text of the end-of-sequence token, where it would end; "
            "remove the row"
        )
    return Joined(asked(tokenizer, text), after)


def in_front(tokenizer: Tokenizer, text: str) -> list[int]:
    """The tokens of a text and a line break, to be put between a row's opening and its input.

    A tokenizer that marks the beginning of every text as that of a word has marked the input's, which then
    reads as if a space followed the line break.

    Raises:
        UserError: these and an input's tokens are not those of both as one text, or are not for some words.
    """

    def plain(words: str) -> list[int]:
        return list(tokenizer(words, add_special_tokens=False)["input_ids"])

    tokens = plain(f"{text}\n")
    for following in (_INPUT, "The answer", "46"):
        both = tokens + plain(following)
        if both not in (plain(f"{text}\n{following}"), plain(f"{text}\n {following}")):
            raise UserError(
                f"a text in front of the input must keep its tokens, but this model's tokenizer encodes "
                f"{text[-20:]!r} differently when {following[:20]!r} follows on the next line; write another "
                "text, or leave the method out"
            )
    over = next((token for token in texts(tokenizer) if _JOINS_NEXT.search(token)), None)
    if over is not None:  # as some rows may begin with
        raise UserError(
            "a text in front of the input must keep its tokens, but this model's tokenizer has tokens such "
            f"as {over[:20]!r} for a line break and the word that follows; leave the method out"
        )
    return tokens


@lru_cache(maxsize=4)
def texts(tokenizer: Tokenizer) -> tuple[str, ...]:
    """The text of each token, by id."""
    return tuple(tokenizer.batch_decode([[i] for i in range(len(tokenizer))]))


def stopping(tokenizer: Tokenizer, stop: Iterable[str]) -> frozenset[int]:
    """The end-of-sequence token, and every token whose text has a stop text and no word before it.

    Of a token that is not generated nothing is left, so those with a word before the stop text have to be
    generated, and the answer is cut afterwards. White space and punctuation, which most tokenizers join with
    line breaks, are no loss: metrics drop them.
    """
    found = {
        i
        for i, text in enumerate(texts(tokenizer))
        if any(end in text and not _WORD.search(text.partition(end)[0]) for end in stop)
    }
    end = tokenizer.eos_token_id
    return frozenset(found if end is None else found | {end})


def joins_words_and_breaks(tokenizer: Tokenizer) -> bool:
    """Whether a token has a word and the line break behind it."""
    return any(_JOINS_LAST.search(text) for text in texts(tokenizer))


def spans_spaces(tokenizer: Tokenizer) -> bool:
    """Whether a token has the end of one word or line and the space in front of the next."""
    special = set(tokenizer.all_special_ids)
    return any(_SPANS.search(text) for i, text in enumerate(texts(tokenizer)) if i not in special)


def chunks(tokenizer: Tokenizer, document: str, length: int) -> list[list[int]]:
    """A document cut into texts of at most `length` tokens, in order.

    Each begins with the tokenizer's beginning-of-sequence token if its texts do, since models perform
    poorly without it; none has a closing token.
    """
    begin = [token for token in around(tokenizer).opening if token == tokenizer.bos_token_id]
    # `verbose` off: a document longer than the model's context is no reason to warn, it is cut.
    tokens = tokenizer(document, add_special_tokens=False, verbose=False)["input_ids"]
    step = length - len(begin)
    return [begin + tokens[start : start + step] for start in range(0, len(tokens), step)]


def require_rows(tokens: Iterable[int], rows: int, what: str) -> None:
    """Checks that the embedding table has a row for each token.

    Args:
        rows: of the table.
        what: whose tokens they are, as the start of a sentence.

    Raises:
        UserError: there is one beyond the table.
    """
    largest = max(tokens, default=0)
    if largest >= rows:
        raise UserError(
            f"{what} have token {largest}, and the model's embedding table ends at {rows - 1}; give the "
            "tokenizer that belongs to the model, or save the model again after resizing its embeddings"
        )


@lru_cache(maxsize=8)
def reserved(tokenizer: Tokenizer) -> frozenset[int]:
    """Ids below the tokenizer's size that stand for no text: reserved for later use, or without a token.

    Their vectors were not trained, or only to be alike. They are recognised by names such as `<unused7>`.
    """
    names: Sequence[str | None] = tokenizer.convert_ids_to_tokens(list(range(len(tokenizer))))
    return frozenset(i for i, name in enumerate(names) if name is None or _is_reserved(name))


def vocabulary_ids(tokenizer: Tokenizer, rows: int) -> list[int]:
    """Ids of the tokens that may stand in a text, in order.

    Embedding tables are often longer than the vocabulary, and vocabularies contain reserved tokens; rows of
    either were never trained.

    Args:
        rows: of the embedding table.
    """
    left = reserved(tokenizer)
    return [i for i in range(min(len(tokenizer), rows)) if i not in left]


def _is_reserved(name: str) -> bool:
    return bool(_BRACKETED.fullmatch(name) and _RESERVED.fullmatch(name))


def answers_changed(tokenizer: Tokenizer) -> bool:
    """Whether rows with answers differ from those before format 3, which were made from two texts."""

    def apart(answer: str) -> tuple[list[int], list[int]]:
        before = tokenizer(_INPUT)["input_ids"]
        return before, tokenizer(f" {answer}", add_special_tokens=False)["input_ids"]

    try:
        return any(tuple(joined(tokenizer, _INPUT, answer)) != apart(answer) for answer in _ANSWERS)
    except NotJointError:
        return True
