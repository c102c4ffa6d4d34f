"""The host of encoder-decoder models against the literal form: each row alone, no padding, no cache."""

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from peft import PromptTuningConfig, get_peft_model
from transformers import (
    AutoModelForSeq2SeqLM,
    BartConfig,
    LongT5Config,
    MT5Config,
    SwitchTransformersConfig,
    T5Config,
    UMT5Config,
)

from softprior.errors import UserError
from softprior.methods import METHODS
from softprior.models.encoder_decoder import FAMILIES, PLACE, EncoderDecoderLM
from softprior.models.load import load_local, verify_padding
from softprior.models.protocol import FrozenLM
from softprior.posteriors import load_posterior
from softprior.prompt import Place, Row, collate
from softprior.results import StudyFolder
from softprior.specs import ModelSpec
from softprior.testing.hosts import Recorder
from softprior.training.trial import Trial
from tests.builders import trial

CLOSE = 1e-5
"""Relative to the largest expected number; float32 sums in another order. Observed: 1.5e-6."""

MAX_NEW = 6
START = 3

SIZES = {
    "vocab_size": 97,
    "d_model": 32,
    "d_kv": 8,
    "d_ff": 48,
    "num_layers": 2,
    "num_decoder_layers": 3,
    "num_heads": 4,
    # Small, so that the texts below reach the last bucket.
    "relative_attention_num_buckets": 8,
    "relative_attention_max_distance": 6,
    "decoder_start_token_id": START,
}

MODELS = {
    "T5": T5Config(**SIZES, feed_forward_proj="relu"),
    "T5 v1.1 and Flan-T5": T5Config(**SIZES, feed_forward_proj="gated-gelu", tie_word_embeddings=False),
    "mT5": MT5Config(**SIZES),
    "UMT5": UMT5Config(**SIZES),
}
every_model = pytest.mark.parametrize("name", sorted(MODELS))


def random_model(name="T5 v1.1 and Flan-T5", attention=None):
    with torch.random.fork_rng():
        torch.manual_seed(1)
        config = MODELS[name].__class__.from_dict(MODELS[name].to_dict())
        model = AutoModelForSeq2SeqLM.from_config(config, attn_implementation=attention)
        if name != "T5":
            # transformers builds all of them tied, and unties what a checkpoint holds apart. Tied to
            # its embeddings a random decoder repeats what it reads, whatever the encoder says.
            model.lm_head.weight = torch.nn.Parameter(torch.randn(97, 32))
    return model.eval()


@pytest.fixture(autouse=True)
def no_model_stays_loaded():
    yield
    load_local.cache_clear()


def host_of(name="T5 v1.1 and Flan-T5"):
    return EncoderDecoderLM(random_model(name), "weights")


def oracle(name="T5 v1.1 and Flan-T5"):
    return random_model(name, "eager")


FIRSTS = (5, 3, 8, None, 1)
"""Where the answers of rows of 9, 4, 12, 5 and 7 tokens begin; one row has none."""


def example_batch(seed=0):
    generator = torch.Generator().manual_seed(seed)
    rows = []
    for length, first in zip((9, 4, 12, 5, 7), FIRSTS, strict=True):
        tokens = torch.randint(97, (length,), generator=generator).tolist()
        labels = [first is not None and position >= first for position in range(length)]
        if first == 8:
            labels[9] = labels[11] = False  # tokens between labels and after the last are no labels
        scored = [label and position % 2 == 0 for position, label in enumerate(labels)]
        rows.append(Row(str(len(rows)), tokens, labels, scored))
    return collate(rows).weighted(torch.linspace(0.5, 1.5, len(rows)))


def questions(seed=0):
    """Rows without labels, as they are for generation."""
    batch = example_batch(seed)
    return replace(batch, labels=torch.zeros_like(batch.labels))


def example_prompts(count=4):
    generator = torch.Generator().manual_seed(2)
    return {"none": {}, "soft": {PLACE: torch.randn(count, 32, generator=generator)}}


def texts(batch):
    return [tokens[:n] for tokens, n in zip(batch.tokens.tolist(), batch.lengths.tolist(), strict=True)]


def literal(model, prompt, text, first, **options):
    """The model's own forward on one row; its logits are for the tokens from `first` on, and one more."""
    first = len(text) if first is None else first
    embeddings = model.get_input_embeddings()(torch.tensor(text[:first]))
    if prompt:
        embeddings = torch.cat([prompt[PLACE].to(embeddings), embeddings])
    return model(
        inputs_embeds=embeddings[None],
        decoder_input_ids=torch.tensor([[START, *text[first:]]]),
        use_cache=False,
        **options,
    )


def literal_labels(model, prompt, batch, row):
    """Log-probabilities [N V] at the labels of a row, and the labels' positions."""
    text, first = texts(batch)[row], FIRSTS[row]
    where = batch.labels[row, : len(text)].nonzero().squeeze(1)
    logs = literal(model, prompt, text, first).logits[0].double().log_softmax(-1)
    return logs[where - (first or 0)], where


def literal_nll(model, prompt, batch):
    sums = []
    for row in range(len(batch)):
        logs, where = literal_labels(model, prompt, batch, row)
        sums.append(-logs.gather(1, batch.tokens[row, where][:, None]).sum())
    return torch.stack(sums)


def assert_close(found, expected, what="", close=CLOSE):
    found, expected = found.detach().double(), expected.detach().double()
    assert found.shape == expected.shape, what
    error = float((found - expected).abs().max()) / float(expected.abs().max())
    assert error <= close, f"{what}: off by {error:.1e} of the largest number"


@every_model
def test_the_host_tells_its_models_sizes(name):
    host, model = host_of(name), oracle(name)
    info = host.info()
    assert isinstance(host, FrozenLM)
    assert (info.family, info.stack, info.embedding) == (MODELS[name].model_type, "encoder", "other")
    assert (info.blocks, info.hidden, info.vocabulary) == (2, 32, 97)
    assert info.parameters == sum(p.numel() for p in model.parameters())
    assert (info.positions, info.dtype, info.fingerprint) == (2**31 - 1, "float32", "weights")
    ids = torch.arange(97)
    assert torch.equal(host.embed(ids), model.shared.weight)
    assert host.width(PLACE) == 32
    vectors = torch.randn(5, 32)
    for block in range(2):
        norm = model.encoder.block[block].layer[0].layer_norm
        assert torch.equal(host.normalise(Place(block, stack="encoder"), vectors), norm(vectors))


@every_model
def test_loss_and_gradient_equal_those_of_each_row_alone(name):
    host, model, batch = host_of(name), oracle(name), example_batch()
    for kind, prompt in example_prompts().items():
        leaves = {place: vectors.clone().requires_grad_(True) for place, vectors in prompt.items()}
        expected = literal_nll(model, leaves, batch)
        found = host.loss(prompt, batch, grad=True)
        assert_close(found.nll, expected, kind)
        assert torch.equal(found.nll, host.loss(prompt, batch).nll)
        assert not found.nll.requires_grad
        assert found.tokens.tolist() == batch.labels.sum(1).tolist() == [4, 1, 2, 0, 6]
        assert found.scored.tolist() == batch.scored.sum(1).tolist()
        assert set(found.gradient) == set(prompt)
        if prompt:
            (expected * batch.weights).sum().backward()
            assert found.gradient[PLACE].dtype == torch.float32
            assert_close(found.gradient[PLACE], leaves[PLACE].grad, kind)
    assert torch.equal(host.loss(None, batch).nll, host.loss({}, batch).nll)
    assert host.loss(None, batch).gradient is None


def test_accuracy_counts_the_scored_labels_that_are_the_first_choice():
    host = host_of()
    for prompt in example_prompts().values():
        answers = host.generate(prompt, questions(), max_new=MAX_NEW, stop=frozenset())
        rows = []
        for text, answer in zip(texts(questions()), answers, strict=True):
            answer = [*answer[:-1], (answer[-1] + 1) % 97]  # wrong in the end
            labels = [False] * len(text) + [True] * MAX_NEW
            scored = [False] * (len(text) + 1) + [True] * (MAX_NEW - 1)
            rows.append(Row("", text + answer, labels, scored))
        found = host.loss(prompt, collate(rows))
        assert found.correct.tolist() == [MAX_NEW - 2] * len(rows)
        assert found.scored.tolist() == [MAX_NEW - 1] * len(rows)


def test_loss_and_gradient_equal_those_of_peft():
    batch = example_batch()
    batch = replace(batch, labels=batch.labels.clone())
    batch.labels[2, 9:] = True  # PEFT makes the decoder's input of the labels, so they have no gaps
    host, prompt = host_of(), example_prompts(5)["soft"]
    weights = torch.full((len(batch),), 1 / int(batch.labels.sum()))  # PEFT returns the mean over all labels
    ours = host.loss(prompt, batch.weighted(weights), grad=True)

    config = PromptTuningConfig(task_type="SEQ_2_SEQ_LM", num_virtual_tokens=5, num_transformer_submodules=1)
    peft = get_peft_model(random_model(), config).eval()
    trained = peft.prompt_encoder["default"].embedding.weight
    with torch.no_grad():
        trained.copy_(prompt[PLACE])
    inputs, attended, answers = [], [], []
    for text, first in zip(texts(batch), FIRSTS, strict=True):
        first = len(text) if first is None else first
        inputs.append(text[:first] + [50] * (8 - first))
        attended.append([1] * first + [0] * (8 - first))
        answers.append(text[first:] + [-100] * (6 - len(text) + first))
    theirs = peft(
        input_ids=torch.tensor(inputs), attention_mask=torch.tensor(attended), labels=torch.tensor(answers)
    ).loss
    theirs.backward()
    assert_close((ours.nll * weights).sum(), theirs)
    assert_close(ours.gradient[PLACE], trained.grad)


@every_model
def test_the_gradient_predicts_how_the_loss_changes(name):
    """Without automatic differentiation, from four points a direction, relative to the gradient's norm.

    Observed: 5e-6, which is the float32 arithmetic in T5's norms, and 6e-4 over the kinks of a ReLU.
    """
    host = EncoderDecoderLM(random_model(name).double(), "weights")
    batch, prompt = example_batch(), example_prompts()["soft"]
    gradient = host.loss(prompt, batch, grad=True).gradient[PLACE]
    direction = torch.randn(prompt[PLACE].shape, generator=torch.Generator().manual_seed(3)).double()
    direction *= 3e-3 * float(prompt[PLACE].norm() / direction.norm())

    def loss(steps):
        moved = {PLACE: prompt[PLACE].double() + steps * direction}
        return float((host.loss(moved, batch).nll * batch.weights).sum())

    slope = (8 * (loss(1) - loss(-1)) - (loss(2) - loss(-2))) / 12
    error = abs(slope - float((gradient * direction).sum()))
    allowed = 2e-3 if MODELS[name].feed_forward_proj == "relu" else 3e-5
    assert error < allowed * float(gradient.norm() * direction.norm())


def padded(batch, columns, fill):
    """The same rows with more pad columns, `fill` in every pad, and labels at some of them."""
    wide = torch.zeros(len(batch), columns, dtype=torch.long)
    tokens, labels, scored = (
        torch.cat([part, wide.to(part)], 1) for part in (batch.tokens, batch.labels, batch.scored)
    )
    pads = torch.arange(tokens.shape[1])[None] >= batch.lengths[:, None]
    marked = pads & (torch.arange(tokens.shape[1]) % 4 == 3)
    filled = tokens.masked_fill(pads, fill)
    return replace(batch, tokens=filled, labels=labels | marked, scored=scored | marked)


def picked(batch, rows):
    parts = {
        part: getattr(batch, part)[rows] for part in ("tokens", "lengths", "labels", "scored", "weights")
    }
    return replace(batch, ids=tuple(batch.ids[row] for row in rows), **parts)


@every_model
def test_pads_order_and_other_rows_change_no_row(name):
    host, batch = host_of(name), example_batch()
    everything = list(range(len(batch)))
    variants = {
        "pads": (padded(batch, 3, 5), everything),
        "pads that are no tokens": (padded(batch, 2, -1), everything),
        "order": (picked(batch, [3, 1, 4, 0, 2]), [3, 1, 4, 0, 2]),
        **{f"row {row} alone": (picked(batch, [row]), [row]) for row in everything},
    }
    sites = ["encoder.final", "decoder.final"]
    for kind, prompt in example_prompts().items():
        losses = host.loss(prompt, batch, grad=True)
        out = host.generate(prompt, batch, max_new=MAX_NEW, stop=frozenset())
        divergence = host.compare({PLACE: torch.ones(2, 32)}, prompt, batch).divergence
        seen = host.observe(prompt, batch, sites, Recorder())
        for label, (other, rows) in variants.items():
            said = f"{kind}, {label}"
            found = host.loss(prompt, other, grad=True)
            scale = float(losses.nll.max())
            assert_close(found.nll / scale + 1, losses.nll[rows] / scale + 1, said)
            for field in ("tokens", "correct", "scored"):
                assert getattr(found, field).tolist() == getattr(losses, field)[rows].tolist(), said
            if prompt and len(rows) == len(batch):
                assert_close(found.gradient[PLACE], losses.gradient[PLACE], said)
            generated = host.generate(prompt, other, max_new=MAX_NEW, stop=frozenset())
            assert generated == [out[row] for row in rows], said
            again = host.compare({PLACE: torch.ones(2, 32)}, prompt, other).divergence
            assert_close(again + 1, divergence[rows] + 1, said)
            observed = host.observe(prompt, other, sites, Recorder())
            for site in observed.updates:
                states, where = seen.by_text(site)
                expected = torch.cat([states[where.rows == row] for row in rows])
                assert_close(observed.by_text(site)[0], expected, f"{said}, {site}")


@every_model
@torch.no_grad()
def test_every_generated_token_is_the_first_choice_of_a_full_forward(name):
    host, model = host_of(name), oracle(name)
    for prompt in example_prompts().values():
        for batch, firsts in ((questions(), [None] * len(FIRSTS)), (example_batch(), FIRSTS)):
            out = host.generate(prompt, batch, max_new=MAX_NEW, stop=frozenset())
            assert [len(tokens) for tokens in out] == [MAX_NEW] * len(batch)
            for text, first, tokens in zip(texts(batch), firsts, out, strict=True):
                for step, token in enumerate(tokens):
                    first = len(text) if first is None else first
                    logits = literal(model, prompt, text + tokens[:step], first).logits[0, -1]
                    # Not argmax: a tie within rounding may fall either way.
                    assert logits.max() - logits[token] <= CLOSE * logits.abs().max()
            assert host.generate(prompt, batch, max_new=1, stop=frozenset()) == [t[:1] for t in out]


def test_a_row_ends_before_its_first_stop_token_and_the_others_go_on():
    host = host_of()
    for prompt in example_prompts().values():
        for batch in (questions(), example_batch()):
            free = host.generate(prompt, batch, max_new=MAX_NEW, stop=frozenset())

            def until(stop, free=free):
                ends = [next((i for i, t in enumerate(out) if t in stop), MAX_NEW) for out in free]
                return [out[:end] for out, end in zip(free, ends, strict=True)]

            seen = sorted({token for out in free for token in out})
            pairs = [frozenset({a, b}) for a in seen for b in seen]
            stop = max(pairs, key=lambda stop: len({len(out) for out in until(stop)}))
            assert len({len(out) for out in until(stop)}) >= 3, "rows are to end at different steps"
            assert host.generate(prompt, batch, max_new=MAX_NEW, stop=stop) == until(stop)
            everything = frozenset(range(97))
            assert host.generate(prompt, batch, max_new=MAX_NEW, stop=everything) == [[]] * len(batch)


@torch.no_grad()
def test_comparison_is_jensen_shannons_divergence_at_the_labels():
    def entropy(p):
        return -torch.special.xlogy(p, p).sum()

    host, model, batch = host_of(), oracle(), example_batch()
    a, b = example_prompts()["soft"], {PLACE: torch.ones(2, 32)}
    for first, second in ((a, b), (None, a)):
        found, back = host.compare(first, second, batch), host.compare(second, first, batch)
        divergence, agree = [], []
        for row in range(len(batch)):
            p, q = (literal_labels(model, prompt, batch, row)[0].exp() for prompt in (first, second))
            divergence.append(entropy((p + q) / 2) - (entropy(p) + entropy(q)) / 2)
            agree.append(int((p.argmax(-1) == q.argmax(-1)).sum()))
        assert_close(found.divergence, torch.stack(divergence))
        assert_close(back.divergence, found.divergence)
        assert found.agree.tolist() == agree
        assert found.tokens.tolist() == batch.labels.sum(1).tolist()
        assert bool((found.divergence <= math.log(2) * found.tokens).all())
    assert host.compare(a, a, batch).divergence.abs().max() < 1e-9


@every_model
@torch.no_grad()
def test_observed_states_are_those_of_the_real_tokens(name):
    host, model, batch = host_of(name), oracle(name), padded(example_batch(), 2, 5)
    depths = {"encoder": 2, "decoder": 3}
    sites = [f"{stack}.resid.{block}" for stack, blocks in depths.items() for block in range(blocks + 1)]
    sites += ["encoder.final", "decoder.final"]
    for kind, prompt in example_prompts().items():
        seen = host.observe(prompt, batch, sites, Recorder())
        assert set(seen.updates) == set(sites)
        expected = {site: [] for site in sites}
        owners = {"encoder": [], "decoder": []}
        for row, (text, first) in enumerate(zip(texts(batch), FIRSTS, strict=True)):
            first = len(text) if first is None else first
            owners["encoder"] += [(row, position, text[position]) for position in range(first)]
            owners["decoder"] += [(row, position, text[position]) for position in range(first, len(text))]
            own = literal(model, prompt, text, first, output_hidden_states=True)
            for stack, states in (
                ("encoder", own.encoder_hidden_states),
                ("decoder", own.decoder_hidden_states),
            ):
                front = 1 if stack == "decoder" else len(prompt.get(PLACE, ()))
                for block in range(depths[stack]):
                    expected[f"{stack}.resid.{block}"].append(states[block][0, front:])
                expected[f"{stack}.final"].append(states[-1][0, front:])
        for site in sites:
            stack = site.partition(".")[0]
            states, where = seen.by_text(site)
            assert states.dtype == torch.float32
            found = list(zip(*(part.tolist() for part in where), strict=True))
            assert found == owners[stack], f"{kind}, {site}"
            if site != f"{stack}.resid.{depths[stack]}":
                assert_close(states, torch.cat(expected[site]), f"{kind}, {site}")
        for stack, depth in depths.items():
            norm = getattr(model, stack).final_layer_norm
            last = seen.by_text(f"{stack}.resid.{depth}")[0]
            assert_close(norm(last), seen.by_text(f"{stack}.final")[0], stack)


def test_rows_without_labels_have_all_tokens_in_the_encoder_and_none_in_the_decoder():
    host, batch = host_of(), questions()
    seen = host.observe(None, batch, ["encoder.resid.1", "decoder.final"], Recorder())
    assert list(seen.updates) == ["encoder.resid.1"]
    _, where = seen.by_text("encoder.resid.1")
    assert where.tokens.tolist() == [token for text in texts(batch) for token in text]
    losses = host.loss(example_prompts()["soft"], batch, grad=True)
    assert losses.nll.tolist() == [0.0] * len(batch)
    assert not losses.gradient[PLACE].any()


def one_sentence(call, *args, **kwargs):
    with pytest.raises(UserError) as refused:
        call(*args, **kwargs)
    assert "\n" not in str(refused.value)
    assert ". " not in str(refused.value)
    return str(refused.value)


@pytest.mark.parametrize(
    "place",
    [
        Place(0),
        Place(1, stack="encoder"),
        Place(0, after="cut", stack="encoder"),
        Place(0, "key", stack="encoder"),
        Place(0, "value", stack="encoder"),
    ],
    ids=lambda place: place.name,
)
def test_every_other_place_is_refused_in_one_sentence(place):
    host, batch = host_of(), example_batch()
    before = host.loss(None, batch).nll
    for prompt in ({place: torch.zeros(2, 32)}, {place: torch.zeros(2, 32), PLACE: torch.zeros(2, 32)}):
        said = {
            one_sentence(host.width, place),
            one_sentence(host.loss, prompt, batch),
            one_sentence(host.loss, prompt, batch, grad=True),
            one_sentence(host.generate, prompt, batch, max_new=1, stop=frozenset()),
            one_sentence(host.compare, None, prompt, batch),
            one_sentence(host.observe, prompt, batch, ["encoder.final"], Recorder()),
        }
        assert len(said) == 1
        assert place.name in said.pop()
    assert torch.equal(host.loss(None, batch).nll, before)


def test_sites_and_keys_that_are_not_there_are_refused_in_one_sentence():
    host, batch = host_of(), example_batch()
    for site in ("resid.0", "final", "encoder.resid.3", "decoder.resid.4", "encoder.resid.-1"):
        said = one_sentence(host.observe, None, batch, ["encoder.final", site], Recorder())
        assert "encoder.resid.0 to 2 and decoder.resid.0 to 3" in said
    key = Place(0, "key", stack="encoder")
    for said in (
        one_sentence(host.project, key, torch.zeros(2, 32)),
        one_sentence(host.rotate, key, torch.zeros(2, 32)),
        one_sentence(host.keys_values, torch.tensor([1, 2]), [0]),
    ):
        assert "no keys and values" in said


def test_a_label_without_input_before_it_is_refused():
    batch = example_batch()
    batch.labels[1, 0] = True
    for call in (host_of().loss, lambda _, batch: host_of().compare(None, None, batch)):
        with pytest.raises(ValueError, match="cannot be a label"):
            call(None, batch)


def test_a_decoder_without_start_token_is_refused():
    model = random_model()
    model.config.decoder_start_token_id = model.generation_config.decoder_start_token_id = None
    assert "set it in its config.json" in one_sentence(EncoderDecoderLM, model, "weights")
    model.generation_config.decoder_start_token_id = 7
    assert EncoderDecoderLM(model, "weights").start == 7


TOKENIZER = Path(__file__).parents[2] / "platform" / "softprior" / "tiny" / "weights"


def save(model, folder):
    """A folder as a user has it: the weights, and the tokenizer of the model that is shipped."""
    model.save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).write_bytes((TOKENIZER / name).read_bytes())
    return folder


@every_model
def test_a_saved_model_loads_as_an_encoder_decoder(name, tmp_path):
    folder = save(random_model(name), tmp_path)
    if MODELS[name].model_type == "t5" and name != "T5":
        # As checkpoints of T5 v1.1 and Flan-T5 say it.
        config = json.loads((folder / "config.json").read_text())
        del config["scale_decoder_outputs"]
        (folder / "config.json").write_text(json.dumps(config | {"tie_word_embeddings": False}))
    loaded = load_local(ModelSpec(id=str(folder), device="cpu"))
    assert isinstance(loaded.host, EncoderDecoderLM)
    assert loaded.host.info().fingerprint == loaded.fingerprint
    prompt, batch = example_prompts()["soft"], example_batch()
    assert_close(loaded.host.loss(prompt, batch).nll, host_of(name).loss(prompt, batch).nll)


@every_model
@pytest.mark.parametrize(("dtype", "bits"), [("bfloat16", 8), ("float16", 11)])
def test_a_model_of_reduced_precision_is_close_to_the_full_one(name, dtype, bits, tmp_path):
    """In units of the dtype's rounding, 2 to the minus bits, as for the models of the packed host."""
    folder = save(random_model(name), tmp_path)
    full = load_local(ModelSpec(id=str(folder), device="cpu")).host
    short = load_local(ModelSpec(id=str(folder), device="cpu", dtype=dtype)).host
    assert short.info().dtype == dtype
    prompt, batch = example_prompts()["soft"], example_batch()
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
    "longt5": LongT5Config(**SIZES),
    "switch_transformers": SwitchTransformersConfig(vocab_size=97, d_model=32, d_kv=8, d_ff=48, num_layers=2),
}


@pytest.mark.parametrize("family", sorted(FOREIGN))
def test_other_encoder_decoder_families_are_turned_away_before_their_weights_are_read(family, tmp_path):
    folder = save(random_model(), tmp_path)
    FOREIGN[family].save_pretrained(folder)
    said = one_sentence(load_local, ModelSpec(id=str(folder), device="cpu"))
    assert f"'{family}'" in said
    assert ", ".join(FAMILIES) in said


def test_verification_notices_a_row_that_sees_another():
    model = random_model()
    verify_padding(model, EncoderDecoderLM(model, "weights"))
    assert model.encoder.config._attn_implementation == model.config._attn_implementation == "sdpa"
    # One row alone takes a tenth of itself, and of two rows each takes a tenth of the other.
    model.encoder.block[1].register_forward_hook(
        lambda _, __, out: (out[0] + 0.1 * out[0].roll(1, 0), *out[1:])
    )
    assert "padded row" in one_sentence(verify_padding, model, EncoderDecoderLM(model, "weights"))


def test_verification_says_in_one_sentence_what_a_family_fails_with():
    model = random_model()
    host = EncoderDecoderLM(model, "weights")

    def fail(*_):
        raise RuntimeError("no such thing\nand a second line")

    model.decoder.register_forward_pre_hook(fail)
    assert "(no such thing)" in one_sentence(verify_padding, model, host)


def test_a_soft_prompt_in_front_of_the_encoder_is_trained_end_to_end(tmp_path):
    config = T5Config.from_dict(MODELS["T5"].to_dict() | {"vocab_size": 1024})
    torch.manual_seed(0)
    folder = save(AutoModelForSeq2SeqLM.from_config(config), tmp_path / "model")
    loaded = load_local(ModelSpec(id=str(folder), device="cpu"))

    def run(**parts):
        identity = {"model": str(folder), "model_fingerprint": loaded.fingerprint}
        spec = trial(**parts).model_copy(update=identity)
        results = StudyFolder(tmp_path / "results")
        running = Trial(spec, loaded.host, loaded.tokenizer, loaded.fingerprint, results, lambda _: None)
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
