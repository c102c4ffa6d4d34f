"""Exact arithmetic: DeepMind's nine arithmetic modules, and two-digit addition."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, ClassVar

from pydantic import Field, field_validator

from softprior.assets.cache import ensure
from softprior.results.provenance import edits
from softprior.tasks.answered import Answered
from softprior.tasks.arithmetic_source import NINE, Difficulty, Module, Sum, draw, source_fingerprint
from softprior.tasks.base import SPLITS, Example, Splits, table
from softprior.tasks.partition import donors, round_robin


class Arithmetic(Answered):
    """Generated questions with one exact answer each, the same number from every module.

    Splits are by the numbers in a question, whatever its wording and their order. The control asks
    another question and keeps the answer.

    Attributes:
        modules: any of DeepMind's nine (all of them by default), and `two_digit_addition`, which is
            the project's own and not one of the nine: "What is 12 + 34?", all 8,100 pairs from 10 to
            99. Their order does not matter.
        difficulty: range of entropy of DeepMind's modules, under the names of their generator:
            `train-easy`, `train-medium` and `train-hard` are the thirds of `train`; `interpolate` is
            their test setting. `two_digit_addition` has no difficulty.
    """

    headline: ClassVar[str] = "exact_match"
    instruction: ClassVar[str] = "Work out the answer and write only the number."

    modules: Annotated[tuple[Module, ...], Field(min_length=1)] = NINE
    difficulty: Difficulty = "train-easy"

    @field_validator("modules")
    @classmethod
    def _sorted(cls, modules: tuple[Module, ...]) -> tuple[Module, ...]:
        if len(set(modules)) < len(modules):
            raise ValueError("names a module twice; name each module once")
        return tuple(sorted(modules))

    def fingerprint(self) -> str:
        """Identifies the generator and the library that prints its answers."""
        return source_fingerprint()

    def positions(self) -> int:
        """An easy question and its answer have about 28 tokens in most tokenizers, hard ones 40."""
        easy = 28 if self.difficulty == "train-easy" else 40
        return (20 if self.modules == ("two_digit_addition",) else easy) + self.turns()

    def score(self, prediction: str, answers: Sequence[str]) -> dict[str, float]:
        """`exact_match`: whether the text is the answer, apart from spaces around it."""
        return {"exact_match": float(prediction.strip() in {answer.strip() for answer in answers})}

    def question(self, example: Example) -> tuple[int, int] | None:
        """All but the last line."""
        return 0, example.input.rindex("\n")

    def own_text(self, example: Example) -> tuple[tuple[int, int], ...]:
        """The last line."""
        return ((example.input.rindex("\n"), len(example.input)),)

    def splits(self) -> Splits:
        """Generates the questions, or reads them from the cache."""
        counts = {split: -(-self.examples_of(split) // len(self.modules)) for split in SPLITS}
        key = json.dumps([self.modules, self.difficulty, counts, self.fingerprint(), *edits()])
        name = hashlib.sha256(key.encode()).hexdigest()[:16]

        def build(path: Path) -> None:
            path.write_text(json.dumps(draw(self.modules, self.difficulty, counts)), encoding="utf-8")

        drawn = json.loads(ensure(f"arithmetic/{name}.json", build).read_text(encoding="utf-8"))
        return Splits(**{split: table(self._examples([Sum(*s) for s in drawn[split]])) for split in SPLITS})

    def _examples(self, sums: Sequence[Sum]) -> list[Example]:
        by_module: dict[str, list[Sum]] = {module: [] for module in self.modules}
        for one in sums:
            by_module[one.module].append(one)
        ordered = round_robin(by_module.values())
        inputs = [f"{one.question}\nAnswer:" for one in ordered]
        givers = donors(inputs)
        return [
            Example(
                id=f"{one.module}-{hashlib.sha256(one.question.encode()).hexdigest()[:16]}",
                input=inputs[i],
                control=None if givers is None else inputs[givers[i]],
                answers=(one.answer,),
                group=one.module,
            )
            for i, one in enumerate(ordered)
        ]
