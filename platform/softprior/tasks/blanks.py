"""Sentences of documents, and the word in each that is blanked: what cloze asks for."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from softprior.seeding import derive
from softprior.tasks.base import SPLITS, Example, Split
from softprior.tasks.documents_source import Document
from softprior.tasks.partition import DATA_SEED, donors, keyed_order, round_robin

BLANK = "___"

_FEWEST_WORDS = 5
"""Minimum number of words in a sentence. Fewer say too little about the missing one."""
_OPENING = "[\"'(\\[\u201c\u2018]*"
_CLOSING = "[\"')\\]\u201d\u2019]*"
_WORD = re.compile(rf"({_OPENING})([^\W\d_]{{4,}})([.,;:!?\u2026]*{_CLOSING}[.,;:!?\u2026]*)")
"""A word that may be blanked, between its punctuation: letters only, so neither half of a compound nor a
number, and at least four of them, because grammar alone gives most shorter words away."""
_END = re.compile(rf"[.!?\u2026]{_CLOSING}$")
_ABBREVIATION = re.compile(rf"{_OPENING}(([^\W\d_]\.)+|(Mr|Mrs|Ms|Dr|Prof|St|No|vs|cf|ca|approx)\.)")
"""A full stop that ends a sentence only at the end of a line: in initials, and in what comes before a name or
number. An abbreviation that is missing here cuts a sentence short."""


class Blanked(NamedTuple):
    """A sentence with a blank, "Answer:" on the next line, and the word that was in the blank's place."""

    input: str
    word: str


def sentences(text: str) -> Iterator[str]:
    """The whole sentences of a text, single spaces between their words.

    A line's end is a sentence's end, since a paragraph is a line in C4 and Wikipedia. What does not end
    like a sentence (a heading, an entry of a list) or starts in lower case is skipped.
    """
    for line in text.splitlines():
        words = line.split()
        start = 0
        for end, word in enumerate(words, start=1):
            last = end == len(words)
            if _END.search(word) and (last or not _goes_on(word, words[end])):
                if not words[start][0].islower():
                    yield " ".join(words[start:end])
                start = end


def _goes_on(word: str, following: str) -> bool:
    return _ABBREVIATION.fullmatch(word) is not None or following[0].islower()


def blanked(sentence: str) -> Blanked | None:
    """The sentence with one word blanked, or None if no word can be.

    Neither the first word, whose capital is not part of it, nor any that occurs in the rest of the
    input, even within another word. Which of the others it is depends on a keyed hash of the text.
    """
    words = sentence.split()
    if len(words) < _FEWEST_WORDS or BLANK in sentence:
        return None
    found = []
    for i, word in enumerate(words[1:], start=1):
        if parts := _WORD.fullmatch(word):
            before, answer, after = parts.groups()
            text = f"{' '.join([*words[:i], f'{before}{BLANK}{after}', *words[i + 1 :]])}\nAnswer:"
            if answer.lower() not in text.lower():
                found.append(Blanked(text, answer))
    # In lower case, so that copies of a sentence that differ in case alone have the same blank.
    place = sentence.lower()
    return min(found, key=lambda one: derive(DATA_SEED, "blank", place, one.word.lower()), default=None)


def blanked_examples(
    documents: Mapping[Split, Mapping[str, Document]], notes: Counter[str]
) -> dict[Split, list[Example]]:
    """An example of every sentence with a blank, round-robin over documents.

    A sentence counts once. One that occurs in documents of several splits goes to the test split first,
    then to validation, then to training: web pages share sentences, and nothing tested may have been
    trained on. The control is another sentence of the split, of about the same
    length, with the example's answer.

    Args:
        documents: of every split, by name and in the order in which they are to be taken.
        notes: what is left out is counted here.
    """
    taken: set[str] = set()
    examples: dict[Split, list[Example]] = {}
    for split in reversed(SPLITS):
        own = [_of_document(name, document, taken, notes) for name, document in documents[split].items()]
        examples[split] = _with_controls(round_robin(own))
    return examples


def _of_document(name: str, document: Document, taken: set[str], notes: Counter[str]) -> list[Example]:
    """A document's examples in keyed order, so that few examples are not all openings."""
    found: dict[str, Example] = {}
    ones = [blanked(sentence) for sentence in sentences(document.text)]
    notes["documents_without_cloze"] += all(one is None for one in ones)
    for i, one in enumerate(ones):
        if one is None:
            continue
        if one.input.lower() in taken:
            notes["repeated_sentences"] += 1
            continue
        taken.add(one.input.lower())
        found[f"{name}-{i}"] = Example(f"{name}-{i}", one.input, None, (one.word,), document.name)
    return [found[key] for key in keyed_order(found, "order")]


def _with_controls(examples: Sequence[Example]) -> list[Example]:
    inputs = [example.input for example in examples]
    givers = donors(inputs)
    if givers is None:
        return list(examples)
    return [example._replace(control=inputs[giver]) for example, giver in zip(examples, givers, strict=True)]
