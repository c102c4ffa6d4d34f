"""What is the encoder-decoder host's own, beside the contract of hosts: PEFT, rows, loading, training."""

import json
from dataclasses import replace

import pytest
import torch
from peft import PromptTuningConfig, get_peft_model
from transformers import (
    AutoModelForSeq2SeqLM,
    AutoTokenizer,
    BartConfig,
    LongT5Config,
    SwitchTransformersConfig,
    T5Config,
)

from softprior.assets.architecture import ENCODER_DECODERS as T5S
from softprior.assets.models import resolve_model
from softprior.errors import UserError
from softprior.inputs.specs import ModelSpec
from softprior.methods import METHODS
from softprior.models.encoder_decoder import PLACE, EncoderDecoderLM
from softprior.models.load import load_local
from softprior.models.verification import verify_padding
from softprior.prompt import Place
from softprior.results.folder import StudyFolder
from softprior.results.posteriors import load_posterior
from softprior.testing.families import ENCODER_DECODERS, random_model, save_model
from softprior.testing.hosts import Recorder, example_batch, example_prompts
from softprior.testing.hosts.examples import firsts, padded, texts, unlabelled
from softprior.training.setup import Setup
from softprior.training.trial import Trial
from tests.builders import trial

CLOSE = 1e-5
"""Relative to the largest expected number; float32 sums in another order. Observed: 1.5e-6."""

every_family = pytest.mark.parametrize("family", sorted(ENCODER_DECODERS))


@pytest.fixture(autouse=True)
def no_model_stays_loaded():
    yield
    load_local.cache_clear()


def host_of(family="t5 v1.1"):
    return EncoderDecoderLM(random_model(family, "sdpa"), "weights")


def prompt_of(host):
    return example_prompts(host)["soft"]


def assert_close(found, expected, what="", close=CLOSE):
    found, expected = found.detach().double(), expected.detach().double()
    assert found.shape == expected.shape, what
    error = float((found - expected).abs().max()) / float(expected.abs().max())
    assert error <= close, f"{what}: off by {error:.1e} of the largest number"


def test_loss_and_gradient_equal_those_of_peft():
    host = host_of()
    batch = example_batch(host.info())
    first, width = firsts(batch), batch.tokens.shape[1]
    # PEFT makes the decoder's input of the labels, so they have no gaps.
    at = torch.arange(width)
    labels = (at >= torch.tensor(first)[:, None]) & (at < batch.lengths[:, None])
    batch, prompt = replace(batch, labels=labels), prompt_of(host)
    weights = torch.full((len(batch),), 1 / int(labels.sum()))  # PEFT returns the mean over all labels
    ours = host.loss(prompt, batch.weighted(weights), grad=True)

    count = len(prompt[PLACE])
    config = PromptTuningConfig(
        task_type="SEQ_2_SEQ_LM", num_virtual_tokens=count, num_transformer_submodules=1
    )
    peft = get_peft_model(random_model("t5 v1.1", "sdpa"), config).eval()
    trained = peft.prompt_encoder["default"].embedding.weight
    with torch.no_grad():
        trained.copy_(prompt[PLACE])
    inputs, attended, answers = [], [], []
    for text, end in zip(texts(batch), first, strict=True):
        inputs.append(text[:end] + [50] * (width - end))
        attended.append([1] * end + [0] * (width - end))
        answers.append(text[end:] + [-100] * (width - len(text) + end))
    theirs = peft(
        input_ids=torch.tensor(inputs), attention_mask=torch.tensor(attended), labels=torch.tensor(answers)
    ).loss
    theirs.backward()
    assert_close((ours.nll * weights).sum(), theirs)
    assert_close(ours.gradient[PLACE], trained.grad)


def test_labels_at_pads_are_none():
    host = host_of()
    batch = padded(example_batch(host.info()), 3, fill=5)
    pads = torch.arange(batch.tokens.shape[1]) >= batch.lengths[:, None]
    marked = replace(batch, labels=batch.labels | pads, scored=batch.scored | pads)
    found, expected = (host.loss(prompt_of(host), one, grad=True) for one in (marked, batch))
    assert torch.equal(found.nll, expected.nll)
    assert torch.equal(found.gradient[PLACE], expected.gradient[PLACE])
    assert (found.tokens.tolist(), found.scored.tolist()) == (
        expected.tokens.tolist(),
        expected.scored.tolist(),
    )


def test_rows_without_labels_have_all_tokens_in_the_encoder_and_none_in_the_decoder():
    host = host_of()
    batch = unlabelled(example_batch(host.info()))
    seen = host.observe(None, batch, ["encoder.resid.1", "decoder.final"], Recorder())
    assert list(seen.updates) == ["encoder.resid.1"]
    _, where = seen.by_text("encoder.resid.1")
    assert where.tokens.tolist() == [token for text in texts(batch) for token in text]
    losses = host.loss(prompt_of(host), batch, grad=True)
    assert losses.nll.tolist() == [0.0] * len(batch)
    assert not losses.gradient[PLACE].any()


def one_sentence(call, *args, **kwargs):
    with pytest.raises(UserError) as refused:
        call(*args, **kwargs)
    assert "\n" not in str(refused.value)
    assert ". " not in str(refused.value)
    return str(refused.value)


def test_refusals_say_what_is_there():
    host = host_of()
    batch = example_batch(host.info())
    said = one_sentence(host.width, Place(1, stack="encoder"))
    assert Place(1, stack="encoder").name in said
    assert PLACE.name in said
    said = one_sentence(host.observe, None, batch, ["final"], Recorder())
    assert "encoder.resid.0 to 2 and decoder.resid.0 to 3" in said
    assert "no keys and values" in one_sentence(host.project, PLACE, torch.zeros(2, host.info().hidden))


def test_a_label_without_input_before_it_is_refused():
    host = host_of()
    batch = example_batch(host.info())
    batch.labels[1, 0] = True
    for call in (host.loss, lambda _, batch: host.compare(None, None, batch)):
        with pytest.raises(ValueError, match="cannot be a label"):
            call(None, batch)


def test_a_decoder_without_start_token_is_refused():
    model = random_model("t5")
    model.config.decoder_start_token_id = model.generation_config.decoder_start_token_id = None
    assert "set it in its config.json" in one_sentence(EncoderDecoderLM, model, "weights")
    model.generation_config.decoder_start_token_id = 7
    assert EncoderDecoderLM(model, "weights").start == 7


@every_family
def test_a_saved_model_loads_as_an_encoder_decoder(family, tmp_path):
    folder = save_model(random_model(family), tmp_path)
    if family == "t5 v1.1":
        # As checkpoints of T5 v1.1 and Flan-T5 say it.
        config = json.loads((folder / "config.json").read_text())
        del config["scale_decoder_outputs"]
        (folder / "config.json").write_text(json.dumps(config | {"tie_word_embeddings": False}))
    loaded = load_local(ModelSpec(id=str(folder), device="cpu"))
    assert isinstance(loaded.host, EncoderDecoderLM)
    assert loaded.host.info().fingerprint == loaded.fingerprint
    host = host_of(family)
    prompt, batch = prompt_of(host), example_batch(host.info())
    assert_close(loaded.host.loss(prompt, batch).nll, host.loss(prompt, batch).nll)


@every_family
@pytest.mark.parametrize(
    ("dtype", "bits"), [("bfloat16", 8), pytest.param("float16", 11, marks=pytest.mark.faults)]
)
def test_a_model_of_reduced_precision_is_close_to_the_full_one(family, dtype, bits, tmp_path):
    """In units of the dtype's rounding, 2 to the minus bits, as for the models of the packed host."""
    folder = save_model(random_model(family), tmp_path)
    full = load_local(ModelSpec(id=str(folder), device="cpu")).host
    short = load_local(ModelSpec(id=str(folder), device="cpu", dtype=dtype)).host
    assert short.info().dtype == dtype
    prompt, batch = prompt_of(full), example_batch(full.info())
    exact, rounded = (host.loss(prompt, batch, grad=True) for host in (full, short))
    assert rounded.nll.dtype == rounded.gradient[PLACE].dtype == torch.float32
    assert_close(rounded.nll, exact.nll, close=4 * 2.0**-bits)
    difference = rounded.gradient[PLACE] - exact.gradient[PLACE]
    assert difference.norm() / exact.gradient[PLACE].norm() < 84 * 2.0**-bits
    seen = short.observe(prompt, batch, ["encoder.resid.2", "decoder.resid.3"], Recorder())
    assert all(seen.by_text(site)[0].dtype == torch.float32 for site in seen.updates)
    assert len(short.generate(prompt, batch, max_new=3, stop=frozenset())[0]) == 3


BART = BartConfig(
    vocab_size=97,
    d_model=32,
    **{f"{stack}_{part}": 2 for stack in ("encoder", "decoder") for part in ("layers", "attention_heads")},
)
FOREIGN = {
    "bart": BART,
    "longt5": LongT5Config(vocab_size=97, d_model=32, d_kv=8, d_ff=48, num_layers=2),
    "switch_transformers": SwitchTransformersConfig(vocab_size=97, d_model=32, d_kv=8, d_ff=48, num_layers=2),
}


@pytest.mark.parametrize("family", sorted(FOREIGN))
def test_other_encoder_decoder_families_are_turned_away_before_their_weights_are_read(family, tmp_path):
    folder = save_model(random_model("t5"), tmp_path)
    FOREIGN[family].save_pretrained(folder)
    said = one_sentence(load_local, ModelSpec(id=str(folder), device="cpu"))
    assert f"'{family}'" in said
    assert ", ".join(T5S) in said


def test_verification_notices_a_row_that_sees_another():
    model = random_model("t5 v1.1", "sdpa")
    verify_padding(model, EncoderDecoderLM(model, "weights"))
    assert model.encoder.config._attn_implementation == model.config._attn_implementation == "sdpa"
    # One row alone takes a tenth of itself, and of two rows each takes a tenth of the other.
    model.encoder.block[1].register_forward_hook(
        lambda _, __, out: (out[0] + 0.1 * out[0].roll(1, 0), *out[1:])
    )
    assert "padded row" in one_sentence(verify_padding, model, EncoderDecoderLM(model, "weights"))


def test_verification_says_in_one_sentence_what_a_family_fails_with():
    model = random_model("t5 v1.1", "sdpa")
    host = EncoderDecoderLM(model, "weights")

    def fail(*_):
        raise RuntimeError("no such thing\nand a second line")

    model.decoder.register_forward_pre_hook(fail)
    assert "(no such thing)" in one_sentence(verify_padding, model, host)


def test_a_soft_prompt_in_front_of_the_encoder_is_trained_end_to_end(tmp_path):
    config = T5Config.from_dict(ENCODER_DECODERS["t5"].to_dict() | {"vocab_size": 1024})
    torch.manual_seed(0)
    folder = save_model(AutoModelForSeq2SeqLM.from_config(config), tmp_path / "model")
    AutoTokenizer.from_pretrained(resolve_model(ModelSpec(id="tiny")).folder).save_pretrained(folder)
    loaded = load_local(ModelSpec(id=str(folder), device="cpu"))

    def run(**parts):
        identity = {"model": str(folder), "known_model": loaded.fingerprint}
        spec = trial(**parts).model_copy(update=identity)
        results = StudyFolder(tmp_path / "results")
        running = Trial(
            Setup(spec, loaded.host, loaded.tokenizer, loaded.fingerprint), results, lambda _: None
        )
        return running.run(), results

    record, results = run(steps=12)
    assert record.status == "finished"
    assert record.test.loss < record.untrained.loss
    assert record.test.generated == 4
    assert list(record.geometry) == [PLACE.name]
    assert record.geometry[PLACE.name].moved > 0
    assert list(load_posterior(results.posterior(record.id)).final) == [PLACE]

    for method in ("none", "instruction"):
        assert run(method=METHODS[method]())[0].status == "finished"
    assert "use the method soft" in one_sentence(run, method=METHODS["deep"](tokens=3, last=1))
