"""A model for loops of one's own: a loss under autograd, states, and draws that are those of trials."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from tokenizers.processors import TemplateProcessing
from transformers import PreTrainedTokenizerFast

from softprior.assets.tokens import EncoderTokenizer
from softprior.errors import UserError
from softprior.inputs.specs import ModelSpec
from softprior.library.model import Model, load_model
from softprior.models.encoder_decoder import EncoderDecoderLM
from softprior.models.load import Loaded
from softprior.models.local import LocalLM
from softprior.prompt import Place, collate
from softprior.results.folder import StudyFolder
from softprior.results.posteriors import load_posterior
from softprior.testing.families import random_model
from softprior.testing.literal import literal_logits
from tests.builders import SUMS, run, trial

QUESTIONS, ANSWERS = ["What is 12 + 34?\nAnswer:", "What is 5 + 6?\nAnswer:"], ["46", "11"]


@pytest.fixture(scope="module")
def model() -> Model:
    return load_model("tiny", device="cpu")


def test_the_loss_is_the_mean_and_autograd_reaches_every_place(model: Model) -> None:
    batch = model.batch(QUESTIONS, ANSWERS)
    prompt = model.prompt({"deep": {"tokens": 3}}, "vocabulary", seed=1)
    leaves = {place: vectors.clone().requires_grad_() for place, vectors in prompt.items()}
    loss = model.loss(leaves, batch)
    direct = model.host.loss(prompt, batch, grad=True)
    labels = int(batch.labels.sum())
    assert loss.item() == pytest.approx(float(direct.nll.sum()) / labels, rel=1e-6)
    (3 * loss).backward()
    for place, leaf in leaves.items():
        torch.testing.assert_close(leaf.grad, 3 * direct.gradient[place] / labels, rtol=1e-4, atol=1e-7)


def test_what_stands_before_the_loss_is_differentiated_too(model: Model) -> None:
    """A low-rank prompt: the chain rule through vectors that are no leaves."""
    batch = model.batch(QUESTIONS, ANSWERS)
    left = torch.randn(4, 2, generator=torch.Generator().manual_seed(0)).requires_grad_()
    right = torch.randn(2, model.info.hidden, generator=torch.Generator().manual_seed(1)).requires_grad_()
    model.loss(0.1 * left @ right, batch).backward()
    vectors = (0.1 * left @ right).detach()
    gradient = model.host.loss({Place(0): vectors}, batch, grad=True).gradient[Place(0)]
    gradient = gradient / int(batch.labels.sum())
    torch.testing.assert_close(left.grad, 0.1 * gradient @ right.detach().T, rtol=1e-4, atol=1e-6)


def test_weights_of_rows_count_and_second_derivatives_are_refused(model: Model) -> None:
    batch = model.batch(QUESTIONS, ANSWERS)
    first = model.batch(QUESTIONS[:1], ANSWERS[:1])
    prompt = model.sample("fitted", tokens=2).requires_grad_()
    alone = model.loss(prompt, batch.weighted(torch.tensor([2.0, 0.0])))
    assert alone.item() == pytest.approx(model.loss(prompt, first).item(), rel=1e-5)
    with pytest.raises(UserError, match="cannot be differentiated again"):
        torch.autograd.grad(model.loss(prompt, batch), prompt, create_graph=True)
    with torch.no_grad():
        assert not model.loss(prompt, batch).requires_grad


def test_logits_are_those_of_the_literal_form(model: Model) -> None:
    oracle = random_model("llama")
    host = LocalLM(random_model("llama", "softprior_packed"), "weights")
    model = Model(Loaded(host, model.tokenizer, ""))
    prompt = {Place(0): torch.randn(3, 32, generator=torch.Generator().manual_seed(0))}
    batch = collate([_row("a", [5, 6, 7, 8], 2), _row("b", [9, 3], 1)])
    expected = [literal_logits(oracle, prompt, [5, 6, 7, 8])[1:3], literal_logits(oracle, prompt, [9, 3])[:1]]
    torch.testing.assert_close(model.logits(prompt, batch), torch.cat(expected), rtol=1e-4, atol=1e-4)


def _row(name, tokens, first):
    from softprior.prompt import Row

    marks = [i >= first for i in range(len(tokens))]
    return Row(name, tokens, marks, marks)


def test_a_draw_is_what_a_trial_of_that_seed_starts_from(model: Model, tmp_path: Path) -> None:
    spec = trial(seed=7)
    run(spec, tmp_path)
    start = load_posterior(StudyFolder(tmp_path).posterior(spec.id)).initial[Place(0)]
    assert model.sample("fitted", tokens=4, seed=7).equal(start)
    assert model.prompt({"soft": {"tokens": 4}}, "fitted", seed=7)[Place(0)].equal(start)
    assert not model.sample("fitted", tokens=4, seed=8).equal(start)


def test_nearest_tokens_of_a_tokens_own_vector_are_itself(model: Model) -> None:
    ids = model.tokenizer("What is 12", add_special_tokens=False)["input_ids"]
    vectors = model.host.embed(torch.tensor(ids))
    found = model.nearest(vectors, count=2)
    assert [row[0].id for row in found] == ids
    assert all(row[0].distance == 0 < row[1].distance for row in found)
    assert found[0][0].text == model.tokenizer.decode([ids[0]])


def test_states_are_of_text_alone(model: Model) -> None:
    batch = model.batch(QUESTIONS, ANSWERS)
    found = model.states(model.sample("fitted", tokens=2), batch, ["resid.0", "final"])
    states = found["resid.0"]
    rows = list(zip(batch.tokens, batch.lengths, strict=True))
    assert states.tokens.tolist() == [token for row, length in rows for token in row[:length]]
    assert states.positions.tolist() == [i for _, length in rows for i in range(length)]
    assert states.vectors.equal(model.host.embed(states.tokens))
    assert found["final"].tokens.equal(states.tokens)


def test_texts_without_answers_predict_every_token_but_the_first(model: Model) -> None:
    batch = model.batch(["What is 12 + 34?"])
    assert batch.labels[0].tolist() == [False] + [True] * (batch.positions - 1)
    with pytest.raises(UserError, match="no token after its first"):
        model.batch([""])


def test_a_task_is_prepared_as_trials_have_it_and_mistakes_are_sentences(model: Model) -> None:
    assert len(model.examples({"arithmetic": SUMS}).train) == SUMS["train_examples"]
    with pytest.raises(UserError, match="'isotopic' does not exist"):
        model.sample("isotopic", tokens=4)
    with pytest.raises(UserError, match="scale"):
        model.sample({"isotropic": {"scale": -1}}, tokens=4)
    with pytest.raises(UserError, match=r"load_model: .*dtype"):
        load_model("tiny", dtype="int8")


def test_options_of_a_spec_are_not_ignored_and_a_batch_without_labels_is_refused(model: Model) -> None:
    exact = load_model(ModelSpec(id="tiny", device="cpu"), dtype="bfloat16")
    assert exact.info.dtype == "bfloat16"
    unlabelled = collate([_row("a", [5, 6], 2)])
    for batch in (unlabelled, model.batch(QUESTIONS, ANSWERS).weighted(torch.zeros(2))):
        with pytest.raises(UserError, match="none with a weight above 0"):
            model.loss(None, batch)


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Model:
    network = random_model("t5")
    tokenizer = closing_tokenizer()
    return Model(Loaded(EncoderDecoderLM(network, "weights"), EncoderTokenizer(tokenizer), "weights"))


def closing_tokenizer() -> PreTrainedTokenizerFast:
    """Words w0, w1, ..., each its number; texts end with </s>, token 1."""
    inner = Tokenizer(
        WordLevel({"<unk>": 0, "</s>": 1, **{f"w{i}": i for i in range(2, 97)}}, unk_token="<unk>")
    )
    inner.pre_tokenizer = WhitespaceSplit()
    inner.post_processor = TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    return PreTrainedTokenizerFast(tokenizer_object=inner, unk_token="<unk>", eos_token="</s>")


def test_an_encoder_reads_inputs_as_its_texts_end(encoder: Model) -> None:
    """What is generated from is what answers are trained behind, and logits are the model's own forward."""
    batch = encoder.batch(["w5 w6"], ["w7"])
    assert batch.tokens[0].tolist() == [5, 6, 1, 7, 1]
    asked: list[list[int]] = []
    host = encoder.host

    class Heard:
        info = host.info

        def generate(self, _, batch, **__):
            asked.extend(batch.tokens.tolist())
            return [[7]]

    encoder.host = Heard()
    try:
        assert encoder.generate({}, ["w5 w6"]) == ["w7"]
    finally:
        encoder.host = host
    assert asked == [[5, 6, 1]]
    own = host._model(
        input_ids=torch.tensor([[5, 6, 1]]), decoder_input_ids=torch.tensor([[host.start, 7]])
    ).logits[0]
    torch.testing.assert_close(encoder.logits({}, batch), own, rtol=1e-4, atol=1e-4)


def test_an_encoder_needs_answers(encoder: Model) -> None:
    assert encoder.front == Place(0, stack="encoder")
    with pytest.raises(UserError, match="give them beside the texts"):
        encoder.batch(["a text"])


def test_what_does_not_fit_the_model_or_is_no_list_is_refused(model: Model) -> None:
    long, prompt = model.batch(["x " * 2000], ["y"]), torch.zeros(4, 128)
    for ask in (
        lambda: model.loss(prompt, long),
        lambda: model.logits(prompt, long),
        lambda: model.states(prompt, long, ["final"]),
        lambda: model.generate(prompt, ["abc"], max_new=1100),
    ):
        with pytest.raises(UserError, match=r"positions, but the model has 1024; give less"):
            ask()
    with pytest.raises(UserError, match=r"must be a list, not the text 'abc'; write \[text\]"):
        model.generate(prompt, "abc")
    with pytest.raises(UserError, match="2 texts cannot have 1 answer;"):
        model.batch(["a", "b"], ["c"])
    with pytest.raises(UserError, match="empty list"):
        model.batch([])
    with pytest.raises(UserError, match=r"^'fited' does not exist among the priors; did you mean 'fitted'"):
        model.sample("fited", 8)


WIDE = 128
"""Of `tiny`."""


@pytest.mark.parametrize(
    ("ask", "sentence"),
    [
        (
            lambda m, b: m.loss(torch.full((2, WIDE), torch.nan), b),
            "NaN or infinite values, first in vector 0",
        ),
        (lambda m, b: m.loss(torch.tensor([[0.0], [torch.inf]]).repeat(1, WIDE), b), "first in vector 1"),
        (lambda m, b: m.loss(torch.zeros(2, 3), b), r"of vectors, 128\], not \[2, 3\]"),
        (lambda m, b: m.loss(torch.zeros(WIDE), b), r"of vectors, 128\], not \[128\]"),
        (lambda m, b: m.loss(torch.zeros(2, WIDE).long(), b), "floating-point numbers, not torch.int64"),
        (lambda m, b: m.loss(torch.zeros(2, WIDE).numpy(), b), "a prompt must be a tensor, .* not ndarray"),
        (lambda m, b: m.loss({"block0": torch.zeros(2, WIDE)}, b), "place = 'block0': must be an sp.Place"),
        (lambda m, _: m.sample("isotropic", 0), "tokens = 0: must be a whole number, at least 1"),
        (lambda m, _: m.sample("isotropic", 2.5), "tokens = 2.5: must be a whole number, at least 1"),
        (lambda m, _: m.sample("isotropic", 2, seed=-1), "seed = -1: must be a whole number, 0 to"),
        (lambda m, _: m.prompt("soft", "isotropic", seed=2**63), "seed = .*: must be a whole number, 0 to"),
        (lambda m, _: m.sample("isotropic", 2, place="block0"), "place = 'block0': must be an sp.Place"),
        (lambda m, _: m.nearest(torch.zeros(1, WIDE), 99_999), r"count = 99999: .*, 1 to \d+$"),
        (lambda m, _: m.nearest(torch.zeros(1, 4)), r"vectors must have the shape"),
        (lambda m, _: m.nearest(torch.full((1, WIDE), torch.nan)), "NaN or infinite"),
        (
            lambda m, b: m.states(None, b, "final"),
            r"sites must be a list, not the text 'final'; write \[site\]",
        ),
        (lambda m, _: m.prompt_states(torch.zeros(2, WIDE), "final"), "sites must be a list"),
        (
            lambda m, _: m.generate(None, ["a"], max_new=-1),
            "max_new = -1: must be a whole number, at least 0",
        ),
        (lambda m, _: m.batch(["a"], "b"), r"answers must be a list, not the text 'b'; write \[answer\]"),
        (lambda m, _: m.batch([1]), "texts must be a list of texts, but it contains 1"),
    ],
)
def test_what_would_give_a_wrong_number_or_an_error_of_torch_is_a_sentence(model, ask, sentence) -> None:
    with pytest.raises(UserError, match=sentence) as refused:
        ask(model, model.batch(QUESTIONS, ANSWERS))
    assert "\n" not in str(refused.value)


def test_states_of_a_prompt_have_no_gradient_at_any_site(model: Model) -> None:
    prompt = model.sample("fitted", tokens=2).requires_grad_()
    assert not any(states.requires_grad for states in model.prompt_states(prompt).values())
    assert not model.prompt_states(2 * prompt, ["resid.0"])["resid.0"].requires_grad
