"""The text's embeddings in order, repeated or cut to the length of the prompt."""

import pytest
import torch

from softprior.errors import UserError
from softprior.inputs.validation import validate
from softprior.priors import PRIORS
from softprior.seeding import torch_generator
from softprior.testing.priors import TableSource


@pytest.mark.parametrize(
    ("count", "order"), [(3, [0, 1, 2]), (2, [0, 1]), (1, [0]), (7, [0, 1, 2, 0, 1, 2, 0])]
)
def test_a_text_is_repeated_or_cut(count, order):
    source = TableSource(tokens=count)
    distribution = PRIORS["instruction"](text="first second third").fit(source)
    words = source.vocabulary()[source.encode("first second third")]
    assert len(words.unique(dim=0)) == 3
    assert torch.equal(distribution.sample(torch_generator(0), count), words[order])
    assert distribution.record() == {"text_tokens": 3}


@pytest.mark.parametrize("text", ["", " ", "\n\t"])
def test_a_text_without_words_is_refused(text):
    with pytest.raises(UserError, match=r"text = .*: must not be empty or blank; write a text"):
        validate(PRIORS["instruction"], {"text": text}, "study.yaml")


def test_a_text_without_tokens_is_refused():
    class Silent(TableSource):
        """Of a tokenizer that knows none of the characters."""

        def encode(self, text):  # noqa: ARG002
            return super().encode("")

    with pytest.raises(UserError, match="needs a text with at least one token, not '☃'"):
        PRIORS["instruction"](text="☃").fit(Silent())


def test_a_text_is_kept_as_it_is_written():
    assert validate(PRIORS["instruction"], {"text": " two  words "}, "study.yaml").text == " two  words "


def test_a_text_is_required():
    with pytest.raises(UserError, match="the key 'text' is required"):
        validate(PRIORS["instruction"], {}, "study.yaml")
