"""An input and its answer as turns of a chat, in a tokenizer's own chat template."""

from __future__ import annotations

from datetime import datetime
from functools import lru_cache
from typing import Any, NamedTuple

from softprior.assets.configs import line
from softprior.assets.tokens import EncoderTokenizer, NotJointError, Tokenizer
from softprior.errors import UserError

_INPUT, _ANSWER = "What is 12 + 34?", "46 and 7"
"""Texts from which the parts of a template are found; no template contains either."""

_DAY = datetime(2024, 7, 26)
"""What templates take for today, or rows would change from day to day: the date that Llama 3.2's own template
falls back on."""

_CODES = "aAbBdmyYHIMSpj"
_DATED = (
    "{% macro strftime_now(format) %}{{ format"
    + "".join(f" | replace('%{code}', '{_DAY.strftime('%' + code)}')" for code in _CODES)
    + " }}{% endmacro %}"
)
"""In front of a template it replaces the function that gives today's date, in the template's own form."""

Messages = list[dict[str, str]]


class Chat(NamedTuple):
    """What a template writes around an input and an answer, whatever they are.

    Attributes:
        lead: in front of the input: the beginning of the sequence, the system's turn, the user's role.
        head: between the request for an answer and the answer, where a template writes something there.
        tail: behind the answer.
        end: the token that ends the assistant's turn, the first of `tail`.
    """

    lead: str
    head: str
    tail: str
    end: int

    def opening(self, tokenizer: Tokenizer) -> list[int]:
        """The tokens of `lead`, without a space at its end, which belongs to the word that follows."""
        return _tokens(tokenizer, self.lead.rstrip(" "))


class ChatTokens(NamedTuple):
    """An example as tokens.

    Attributes:
        text: the chat up to the answer.
        start: where the input begins in it; before that, where a template leaves out spaces around an input.
        before: the tokens of that text, from which an answer is generated.
        after: the answer's.
        end: the token that ends the assistant's turn.
    """

    text: str
    start: int
    before: list[int]
    after: list[int]
    end: int


@lru_cache(maxsize=8)
def chat_of(tokenizer: Tokenizer, system: str | None) -> Chat:
    """The parts of a tokenizer's chat template.

    Args:
        system: the text of the system's turn; None leaves it to the template, which may have one of its own.

    Raises:
        UserError: the tokenizer has no template, it cannot be used with these turns, or nothing ends them.
    """
    if isinstance(tokenizer, EncoderTokenizer):
        raise UserError(
            "template: chat is for decoder-only models, and this model's encoder reads the input on its own; "
            "write template: plain"
        )
    if getattr(tokenizer, "chat_template", None) is None:
        raise UserError(
            "template: chat needs a tokenizer with a chat template, and this model's has none; write "
            "template: plain, or choose a model that was trained on chats"
        )
    asked, whole = _written(tokenizer, system, _INPUT, None), _written(tokenizer, system, _INPUT, _ANSWER)
    at, answered = asked.find(_INPUT), whole.rfind(_ANSWER)
    if at < 0 or not whole.startswith(asked) or answered < len(asked):
        raise _unusable("it changes an input, or writes it otherwise once it has been answered")
    if system is not None and system.strip() not in asked[:at]:
        raise _unusable("it leaves the text of the system's turn out, or changes it")
    tail = whole[answered + len(_ANSWER) :]
    tokens, closed = _tokens(tokenizer, whole[: len(whole) - len(tail)]), _tokens(tokenizer, whole)
    ends = closed[len(tokens) : len(tokens) + 1]
    if closed[: len(tokens)] != tokens or not ends or tokenizer.decode(ends, skip_special_tokens=True):
        raise _unusable("no special token ends the assistant's turn")
    head = whole[len(asked) : answered]
    # A space in front of an answer belongs to its first word; a line break is the template's.
    return Chat(asked[:at], head if head.strip(" ") else "", tail, ends[0])


def chat_tokens(tokenizer: Tokenizer, text: str, answer: str, system: str | None) -> ChatTokens:
    """The tokens of a chat in which a user's input is answered, up to the end of the answer.

    They are those of the whole chat, as transformers' `apply_chat_template` gives them. A template may trim
    what it is given.

    Raises:
        NotJointError: the tokens of the answer are not those that follow the tokens of the rest, or the
            template changes it or the input.
        UserError: as `chat_of`.
    """
    parts = chat_of(tokenizer, system)
    asked, whole = _written(tokenizer, system, text, None), _written(tokenizer, system, text, answer)
    behind = asked[len(parts.lead) :]
    if not asked.startswith(parts.lead) or not behind.startswith((text, text.strip())):
        raise NotJointError(
            f"the tokenizer's chat template changes the input {text[:20]!r}; remove the row, or write "
            "template: plain"
        )
    first, last = len(asked) + len(parts.head), len(whole) - len(parts.tail)
    kept = whole.startswith(asked + parts.head) and whole.endswith(parts.tail)
    if not kept or whole[first:last].strip() != answer.strip() or not answer.strip():
        raise NotJointError(
            f"the tokenizer's chat template changes the answer {answer[:20]!r}; remove the row, or write "
            "template: plain"
        )
    lead, before = parts.opening(tokenizer), _tokens(tokenizer, whole[:first])
    both, closed = _tokens(tokenizer, whole[:last]), _tokens(tokenizer, whole)
    after = both[len(before) :]
    joint = both[: len(before)] == before and closed[: len(both) + 1] == [*both, parts.end]
    if not joint or before[: len(lead)] != lead:
        raise NotJointError(
            f"the tokenizer encodes the chat template around {answer[:20]!r} differently than alone; choose "
            "a model whose tokenizer keeps its turns apart, or write template: plain"
        )
    if parts.end in after:
        raise NotJointError(
            f"the answer {answer[:40]!r} contains the text of the token that ends the assistant's turn, "
            "where it would end; remove the row"
        )
    left = 0 if behind.startswith(text) else len(text) - len(text.lstrip())
    return ChatTokens(whole[:first], len(parts.lead) - left, before, after, parts.end)


def chat_asked(tokenizer: Tokenizer, text: str, system: str | None) -> list[int]:
    """The tokens of a chat in which a user's input waits for an answer, whatever the answer will be.

    Raises:
        UserError: as `chat_tokens`.
    """
    return chat_tokens(tokenizer, text, _ANSWER, system).before


def _written(tokenizer: Any, system: str | None, text: str, answer: str | None) -> str:
    messages: Messages = [] if system is None else [{"role": "system", "content": system}]
    messages.append({"role": "user", "content": text})
    if answer is not None:
        messages.append({"role": "assistant", "content": answer})
    try:
        template = tokenizer.get_chat_template()
        if "strftime_now" in template:
            template = _DATED + template
        written: str = tokenizer.apply_chat_template(
            messages, chat_template=template, tokenize=False, add_generation_prompt=answer is None
        )
    except Exception as error:  # templates are programs that raise whatever they like
        raise _unusable(line(error)) from None
    return written


def _tokens(tokenizer: Tokenizer, text: str) -> list[int]:
    # The template writes the special tokens, the first of the sequence too.
    return list(tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])


def _unusable(reason: str) -> UserError:
    return UserError(
        f"this model's chat template cannot be used ({reason.rstrip('.')}); write template: plain, or leave "
        "system out if it is set"
    )
