"""Prompt embeddings for servers: the logits and answers of transformers' `inputs_embeds` are our own."""

from __future__ import annotations

import base64
import io
import json
import shutil
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from jobs import exchange as command
from softprior.assets.tokens import asked
from softprior.errors import UserError
from softprior.exchange.embedded import load_embedded, save_embedded
from softprior.exchange.embeddings import embed_texts, unknown_task
from softprior.exchange.serving import KEY, VLLM, SGLang
from softprior.inputs.specs import ModelSpec
from softprior.models.load import load_local
from softprior.prompt import Place, Row, collate
from tests.builders import with_bos
from tests.exchange.test_exchange import Case, case

TEXTS = ["What is 12 + 30?", "Red, green and"]
NEW = 6


@pytest.fixture(scope="module")
def posterior(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A soft prompt of the shipped model."""
    root = tmp_path_factory.mktemp("served")
    tiny = case("tiny", root)
    return tiny.posterior(root / "soft.safetensors", tiny.prompt("soft"))


@pytest.fixture(scope="module")
def network() -> Any:
    return AutoModelForCausalLM.from_pretrained(case("tiny", Path()).folder, dtype=torch.float32).eval()


def test_a_table_gives_transformers_our_logits(posterior: Path, network: Any) -> None:
    tiny = case("tiny", Path())
    prompt = tiny.prompt("soft")
    for text, one in zip(TEXTS, embed_texts(posterior, TEXTS), strict=True):
        assert (one.text, one.prompt, one.dtype) == (text, 5, "float32")
        assert one.vectors.shape == (5 + len(one.tokens), 128)
        with torch.no_grad():
            theirs = network(inputs_embeds=one.vectors[None]).logits[0, 5:-1]
        marks = [False, *[True] * (len(one.tokens) - 1)]
        ours = tiny.host.logits(prompt, collate([Row("", list(one.tokens), marks, marks)]))
        torch.testing.assert_close(theirs, ours, rtol=1e-5, atol=1e-5 * float(ours.abs().max()))
        bare = tiny.host.logits({}, collate([Row("", list(one.tokens), marks, marks)]))
        assert not torch.allclose(ours, bare, rtol=0.01)


def test_a_table_of_a_prompt_behind_the_first_token(tmp_path: Path, capsys: Any) -> None:
    folder = with_bos(tmp_path / "model")
    host, tokenizer, _ = load_local(ModelSpec(id=str(folder), device="cpu"))
    network = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    tiny = Case(str(folder), folder, host)
    ((_, vectors),) = tiny.prompt("soft").items()
    prompt = {Place(0, placement="after_bos"): vectors}
    file = tiny.posterior(tmp_path / "behind.safetensors", prompt)
    (one,) = embed_texts(file, TEXTS[:1])
    assert one.tokens[0] == tokenizer.bos_token_id
    assert torch.equal(one.vectors[1:6], vectors)
    assert torch.equal(one.vectors[:1], host.embed(torch.tensor(one.tokens[:1])))
    with torch.no_grad():
        theirs = network(inputs_embeds=one.vectors[None]).logits[0, 5:-1]
    marks = [False, *[True] * (len(one.tokens) - 1)]
    ours = host.logits(prompt, collate([Row("", list(one.tokens), marks, marks)]))
    torch.testing.assert_close(theirs, ours, rtol=1e-5, atol=1e-5 * float(ours.abs().max()))
    (tmp_path / "texts.txt").write_text(TEXTS[0], encoding="utf-8")
    assert command.main(["embed", str(file), str(tmp_path / "texts.txt"), str(tmp_path / "out")]) == 0
    assert "behind the first token of each text" in capsys.readouterr().out
    again = load_embedded(tmp_path / "out" / "000000.safetensors")
    assert again.placement == "after_bos"
    (odd,) = save_embedded(tmp_path / "odd", [again._replace(placement="behind")])  # type: ignore[arg-type]
    with pytest.raises(UserError, match="unknown placement 'behind'"):
        load_embedded(odd)
    with pytest.raises(UserError, match="placement: after_bos needs texts"):
        embed_texts(case("tiny", Path()).posterior(tmp_path / "other.safetensors", prompt), TEXTS)


def test_a_text_is_written_as_the_task_of_the_prompt_writes_it(tmp_path: Path) -> None:
    """Of a chat it is the user's turn, for a task in `plain` and for no task the text itself."""
    tiny = case("tiny", tmp_path)
    folder = shutil.copytree(tiny.folder, tmp_path / "talking")
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    turns = "{% for m in messages %}{{ m.role + ': ' + m.content + eos_token }}{% endfor %}"
    settings["chat_template"] = turns + "{% if add_generation_prompt %}{{ 'assistant:' }}{% endif %}"
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    model = case(str(folder), tmp_path)
    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    turn = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": TEXTS[0]}]
    chat = tokenizer.apply_chat_template(turn, add_generation_prompt=True, return_dict=True)["input_ids"]
    for params, expected in (
        ({"template": "chat", "system": "Be brief."}, chat),
        ({}, tokenizer(TEXTS[0])["input_ids"]),
    ):
        task = {"name": "arithmetic", "params": params}
        file = tmp_path / f"{len(params)}.safetensors"
        model.posterior(file, model.prompt("soft"), spec={"model": str(folder), "task": task})
        (one,) = embed_texts(file, TEXTS[:1])
        assert list(one.tokens) == list(expected)
    file = tmp_path / "other.safetensors"
    model.posterior(file, model.prompt("soft"), spec={"model": str(folder), "task": {"name": "elsewhere"}})
    assert embed_texts(file, TEXTS[:1])[0].tokens == one.tokens
    assert (unknown_task(file), unknown_task(tmp_path / "0.safetensors")) == ("elsewhere", None)
    arithmetic = {"name": "arithmetic", "params": {"sums": 1}}
    chats = {"name": "elsewhere", "params": {"template": "chat"}}
    for spec, said in (
        ({"task": chats}, "for chats of the task elsewhere, which is not installed here"),
        ({"task": arithmetic}, "bad.safetensors is for a task that cannot be made here: .*sums"),
        ({"task": 3}, "bad.safetensors does not say in a readable form"),
        ([1], "bad.safetensors does not say in a readable form"),
    ):
        file = tmp_path / "bad.safetensors"
        file.unlink(missing_ok=True)
        model.posterior(file, model.prompt("soft"), spec=spec)
        with pytest.raises(UserError, match=said):
            embed_texts(file, TEXTS[:1])


def test_an_address_is_shown_without_its_password() -> None:
    """It may have an @ or a slash, and what is wrong with an address may be quoted from it."""
    for address in ("http://me:pa@ss@127.0.0.1:1", "http://me:secret/pa@ss@127.0.0.1:1"):
        with pytest.raises(UserError, match=r"^http://127\.0\.0\.1:1/generate does not answer") as refused:
            SGLang(address=address).complete(torch.ones(1, 2))
        assert not any(part in str(refused.value) for part in ("pa@", "ss@", "secret", "me:"))


class Answers(BaseHTTPRequestHandler):
    """Both servers' requests, answered by transformers as the servers would."""

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        server: Any = self.server
        server.seen.append((self.path, self.headers["Authorization"]))
        if self.path == "/v1/completions":
            assert set(asked) == {"model", "prompt_embeds", "max_tokens", "temperature"}
            if asked["model"] != "served":
                self.answer(404, {"message": "there is no such model"})
                return
            # As vLLM reads it: nothing but a tensor is accepted.
            vectors = torch.load(io.BytesIO(base64.b64decode(asked["prompt_embeds"])), weights_only=True)
            assert len(base64.b64decode(asked["prompt_embeds"])) < vectors.numel() * 4 + 4096
            text = self.continued(vectors, asked["max_tokens"], asked["temperature"])
            self.answer(200, {"choices": [{"index": 0, "text": text}]})
        elif self.path == "/generate":
            sampling = asked["sampling_params"]
            vectors = torch.tensor(asked["input_embeds"])
            text = self.continued(vectors, sampling["max_new_tokens"], sampling["temperature"])
            self.answer(200, {"text": text})
        else:
            self.answer(200, {"choices": []})

    def continued(self, vectors: torch.Tensor, count: int, temperature: float) -> str:
        assert temperature == 0
        server: Any = self.server
        attended = torch.ones(1, len(vectors), dtype=torch.long)
        found = server.network.generate(
            inputs_embeds=vectors[None], attention_mask=attended, max_new_tokens=count, do_sample=False
        )
        return server.tokenizer.decode(found[0], skip_special_tokens=True)

    def answer(self, status: int, value: object) -> None:
        content = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Nothing: it would be printed among the test's own output."""


@pytest.fixture
def server(network: Any) -> Iterator[Any]:
    made: Any = HTTPServer(("127.0.0.1", 0), Answers)
    made.network, made.seen = network, []
    made.tokenizer = load_local(_tiny()).tokenizer
    thread = Thread(target=made.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield made
    made.shutdown()
    thread.join()
    made.server_close()


def _tiny() -> Any:
    from softprior.inputs.specs import ModelSpec

    return ModelSpec(id="tiny", device="cpu")


def test_both_servers_are_asked_for_our_own_answers(
    posterior: Path, server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = f"http://127.0.0.1:{server.server_port}/"
    host, tokenizer, _ = load_local(_tiny())
    prompt = case("tiny", Path()).prompt("soft")
    rows = []
    for text in TEXTS:
        tokens = asked(tokenizer, text)
        rows.append(Row("", tokens, [False] * len(tokens), [False] * len(tokens)))
    stop = frozenset({tokenizer.eos_token_id})
    ours = host.generate(prompt, collate(rows), max_new=NEW, stop=stop)
    words = [tokenizer.decode(tokens, skip_special_tokens=True) for tokens in ours]
    assert all(words)
    made = embed_texts(posterior, TEXTS)
    for client in (VLLM(address=address, model="served"), SGLang(address=address)):
        assert [client.complete(one.vectors, NEW) for one in made] == words
    monkeypatch.setenv(KEY, "a key")
    SGLang(address=address).complete(made[0].vectors, 1)
    assert {path for path, _ in server.seen} == {"/v1/completions", "/generate"}
    assert [key for _, key in server.seen] == [None] * 4 + ["Bearer a key"]
    for other, hint in (
        (VLLM(address=address, model="other"), "with status 404 "),
        (SGLang(address=address + "elsewhere"), "answers without a text at text"),
        (SGLang(address="http://127.0.0.1:1"), "does not answer"),
        (SGLang(address="not an address"), "does not answer"),
    ):
        with pytest.raises(UserError, match=hint):
            other.complete(made[0].vectors, 1)
    with pytest.raises(UserError, match=r"http://127\.0\.0\.1:1/generate does not answer"):
        SGLang(address="http://me:password@127.0.0.1:1").complete(made[0].vectors, 1)


def test_the_commands_embed_and_complete(
    posterior: Path, server: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    texts, folder = tmp_path / "texts.txt", tmp_path / "embedded"
    texts.write_text("\n".join(TEXTS) + "\n", encoding="utf-8-sig")
    assert command.main(["embed", str(posterior), str(texts), str(folder)]) == 0
    assert "wrote 2 files" in capsys.readouterr().out
    one = load_embedded(folder / "000001.safetensors")
    (again,) = embed_texts(posterior, TEXTS[1:])
    assert torch.equal(one.vectors, again.vectors)
    assert one[1:] == again[1:]
    address = f"http://127.0.0.1:{server.server_port}"
    assert command.main(["complete", str(folder), address, "--served", "served", "--tokens", "3"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["text"] for line in lines] == TEXTS
    assert all(line["answer"] for line in lines)
    for wrong, hint in (
        (["embed", str(posterior), str(texts), str(folder)], "not an empty folder"),
        (["embed", str(posterior), str(tmp_path / "none"), str(tmp_path / "b")], "cannot be read as text"),
        (["complete", str(folder), address], "give either --served"),
        (["complete", str(tmp_path / "none"), address, "--sglang"], "has no files of prompt embeddings"),
    ):
        assert command.main(wrong) == 2
        assert hint in capsys.readouterr().err
    for empty in ("one\n\ntwo\n", "one\n \n", ""):
        texts.write_text(empty, encoding="utf-8")
        assert command.main(["embed", str(posterior), str(texts), str(tmp_path / "b")]) == 2
        assert "a text on every line" in capsys.readouterr().err
    texts.write_bytes("one\u2028line\x0c\r\ntwo".encode())
    assert command.main(["embed", str(posterior), str(texts), str(tmp_path / "b")]) == 0
    found = [load_embedded(path).text for path in sorted((tmp_path / "b").iterdir())]
    assert found == ["one\u2028line\x0c", "two"]
    strings = tmp_path / "texts.jsonl"
    strings.write_text('"What is 1 + 2?\\nAnswer:"\n', encoding="utf-8")
    assert command.main(["embed", str(posterior), str(strings), str(tmp_path / "c")]) == 0
    assert load_embedded(tmp_path / "c" / "000000.safetensors").text == "What is 1 + 2?\nAnswer:"
    for other, hint in (('"one"\n{"a": 1}\n', "line 2 is not a JSON string"), ('" "', "a text on every")):
        strings.write_text(other, encoding="utf-8")
        assert command.main(["embed", str(posterior), str(strings), str(tmp_path / "d")]) == 2
        assert hint in capsys.readouterr().err
    with pytest.raises(SystemExit):
        command.main(["complete", str(folder), address, "--sglang", "--tokens", "0"])


def test_embeddings_are_all_there_or_none(posterior: Path, tmp_path: Path) -> None:
    made = embed_texts(posterior, TEXTS)
    broken: Any = made[1]._replace(text={1, 2})  # which JSON has not
    with pytest.raises(TypeError, match="set"):
        save_embedded(tmp_path / "half", [made[0], broken])
    assert list(tmp_path.iterdir()) == []


def test_what_a_server_cannot_be_given_is_refused(posterior: Path, tmp_path: Path) -> None:
    tiny = case("tiny", tmp_path)
    for kind in ("prefix", "deep"):
        prompt = {Place(0, after="cut"): torch.ones(2, 128)} if kind == "deep" else tiny.prompt(kind)
        file = tiny.posterior(tmp_path / f"{kind}.safetensors", prompt)
        with pytest.raises(UserError, match="takes only embeddings of the input"):
            embed_texts(file, TEXTS)
    with pytest.raises(UserError, match="leave no room for an answer"):
        embed_texts(posterior, ["word " * tiny.host.info().positions])
    scaling = case("gemma3", tmp_path)
    file = scaling.posterior(tmp_path / "gemma.safetensors", scaling.prompt("soft"))
    with pytest.raises(UserError, match="'gemma3_text' multiplies its embeddings"):
        embed_texts(file, ["a b"])
    (one,) = embed_texts(file, ["a b"], scaled=True)
    with torch.no_grad():
        entered = scaling.plain().get_input_embeddings()(torch.tensor(one.tokens))
    assert torch.equal(one.vectors[5:], entered)
    (tmp_path / "bad.safetensors").write_bytes(b"no tensors")
    with pytest.raises(UserError, match="is damaged or not a file of prompt embeddings"):
        load_embedded(tmp_path / "bad.safetensors")
    with pytest.raises(UserError, match="write it with the command `embed`"):
        load_embedded(tmp_path / "none.safetensors")
