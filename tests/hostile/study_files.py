"""Bad study files: what is no YAML, what is too much of it, and values that no study has."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from softprior.inputs.study_files import load_grid
from softprior.studies.plan import plan_study
from softprior.studies.search.spec import load
from tests.hostile.harness import Case

GOOD = """\
name: small
model: {id: tiny, device: cpu}
priors: [isotropic]
methods: [{soft: {tokens: 4}}]
tasks: [arithmetic]
rates: [0.05]
seeds: [0]
training: {steps: 6, batch: 8}
"""

LONG = "x" * 10_000
BOMB = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{chr(98 + i)}: &{chr(98 + i)} [{', '.join([f'*{chr(97 + i)}'] * 10)}]\n" for i in range(9)
)
"""Ten lines that stand for ten billion values."""

MERGED = "a: &a {k: 1}\n" + "".join(
    f"{chr(98 + i)}: &{chr(98 + i)} {{" + ", ".join(f"k{j}: *{chr(97 + i)}" for j in range(10)) + "}\n"
    for i in range(9)
)

WHOLE: list[tuple[str, str | bytes, str]] = [
    ("empty", "", "is empty; start from"),
    ("a comment alone", "# nothing\n", "is empty; start from"),
    ("a list", "- a\n- b\n", "must be a mapping"),
    ("a number", "5\n", "must be a mapping"),
    ("a text", "hello\n", "must be a mapping"),
    ("null", "null\n", "is empty"),
    ("truncated in a list", GOOD[:60], "not valid YAML"),
    ("truncated in a mapping", GOOD[: GOOD.index("tokens")], "not valid YAML"),
    ("truncated after a key", GOOD[: GOOD.index("training")], "'training' is required"),
    ("half", GOOD[: len(GOOD) // 2], "."),
    ("tabs for spaces", "name: a\n\tmodel: tiny\n", "not valid YAML"),
    ("two documents", GOOD + "---\n" + GOOD, "second document"),
    ("a key twice", GOOD + "seeds: [1]\n", "twice"),
    ("a key twice inside", GOOD.replace("steps: 6", "steps: 6, steps: 7"), "twice"),
    ("a key as number and text", GOOD + "1: a\n'1': b\n", "twice"),
    ("a mapping as key", GOOD + "{a: b}: c\n", "key must be a word"),
    ("a list as key", GOOD + "[a, b]: c\n", "key must be a word"),
    ("a bomb of aliases", BOMB + GOOD, "values"),
    ("a bomb of mappings", MERGED + GOOD, "values"),
    ("a bomb of merges", MERGED.replace("k0:", "<<:") + GOOD, "values"),
    ("an alias inside its anchor", GOOD + "x: &x [*x]\n", "inside its own anchor"),
    ("an alias of nothing", GOOD + "x: *nowhere\n", "not valid YAML"),
    ("lists nested 600 deep", "name: " + "[" * 600 + "]" * 600, "nested"),
    ("mappings nested 600 deep", "name: " + "{a: " * 600 + "}" * 600, "nested"),
    ("lines nested 200 deep", "\n".join(" " * i + "a:" for i in range(200)), "nested"),
    ("code", GOOD + "x: !!python/object/apply:os.system ['touch RAN']\n", "tag"),
    ("code, new form", GOOD + "x: !!python/name:os.system\n", "tag"),
    ("a module", GOOD + "x: !!python/module:os\n", "tag"),
    ("a tag of no kind", GOOD + "x: !mine {a: 1}\n", "tag"),
    ("bytes", GOOD + "x: !!binary aGVsbG8=\n", "tag"),
    ("a set", GOOD + "x: !!set {a, b}\n", "tag"),
    ("a text that is tagged a number", GOOD.replace("[0]", "[!!int zero]"), "tag"),
    ("a text that is tagged a float", GOOD.replace("[0.05]", "[!!float much]"), "tag"),
    ("a text that is tagged a truth", GOOD + "x: !!bool perhaps\n", "tag"),
    ("a text that is tagged a time", GOOD + "x: !!timestamp now\n", "tag"),
    ("a merge of a text", GOOD + "x: {<<: text}\n", "not valid YAML"),
    ("a merge of numbers", GOOD + "x: {<<: [1, 2]}\n", "not valid YAML"),
    ("a value called =", GOOD + "x: =\n", "not valid YAML"),
    ("UTF-16", GOOD.encode("utf-16"), "not UTF-8"),
    ("Latin 1", b"name: caf\xe9\n", "not UTF-8"),
    ("a NUL byte", b"name: a\0b\n", "control character"),
    ("an escape sequence", b"name: \x1b[31m\n", "control character"),
    ("an escaped control character", GOOD.replace("small", r'"a\e[31mb"'), "name = "),
    ("random bytes", bytes(range(128, 256)) * 20, "not UTF-8"),
    ("a ZIP archive", b"PK\x03\x04" + bytes(40), "not UTF-8|control character"),
    ("a gzip file", b"\x1f\x8b\x08\x00" + bytes(40), "not UTF-8|control character"),
    ("HTML", "<html><body>404 Not Found</body></html>", "must be a mapping"),
    ("JSON lines", '{"a": 1}\n{"a": 2}\n', "not valid YAML"),
    ("a conflict of git", "<<<<<<< HEAD\nname: a\n=======\nname: b\n>>>>>>> x\n", "not valid YAML"),
    ("half a character", GOOD.replace("small", r'"\ud800"'), "half a character"),
    ("an invisible key", GOOD.replace("seeds", "se\u200beds"), "invisible"),
    ("an invisible key in two halves", GOOD + '"a\\uDB40\\uDC01b": 1\n', "invisible"),
    ("a key of half a character", GOOD + '"a\\uD83D": 1\n', "half a character"),
    ("a key twice, once in two halves", GOOD + '"\\uD83D\\uDE00": 1\n"\U0001f600": 2\n', "twice"),
    ("a key that looks like another", GOOD.replace("seeds", "s\u0435eds"), "unknown key"),
    ("an unknown key of 10,000 letters", GOOD + f"{LONG}: 1\n", "not valid YAML"),
    ("an unknown key of 10,000 letters, asked for", GOOD + f"? {LONG}\n: 1\n", "unknown key"),
    ("an unknown key with a line break", GOOD + '"a\\nb": 1\n', "invisible"),
    ("2,000 unknown keys", GOOD + "".join(f"k{i}: 1\n" for i in range(2_000)), "unknown key"),
    ("a file of zeros", bytes(2**20), "control character"),
    ("larger than any study", GOOD + "#" * 2**24, "larger than"),
]

VALUES: list[tuple[str, str, str]] = [
    ("name", "../outside", "becomes a folder's name"),
    ("name", "/etc", "becomes a folder's name"),
    ("name", "..", "becomes a folder's name"),
    ("name", ".", "becomes a folder's name"),
    ("name", "'a/b'", "becomes a folder's name"),
    ("name", "''", "becomes a folder's name"),
    ("name", LONG, "becomes a folder's name"),
    ("name", "'<script>alert(1)</script>'", "becomes a folder's name"),
    ("name", r'"a\0b"', "becomes a folder's name"),
    ("name", r'"a\nb"', "becomes a folder's name"),
    ("name", "[a]", "must be a text"),
    ("name", "null", "must be a text"),
    ("name", "5", "must be a text"),
    ("model", "../../etc/passwd", "model"),
    ("model", "/dev/zero", "model"),
    ("model", "/", "model"),
    ("model", LONG, "model"),
    ("model", f"./{LONG}", "too long"),
    ("model", r'"./a\0b"', "NUL character"),
    ("model", r'"./a\e[2Jb"', "control character|no model"),
    ("model", "hub:../../x", "hub"),
    ("model", "'hub:'", "hub"),
    ("model", "~nobody-of-that-name/x", "no home folder"),
    ("model", "{id: tiny, id2: x}", "unknown key"),
    ("model", "[tiny]", "must be an id or a path"),
    ("priors", "[]", "1 or more"),
    ("priors", "isotropic", "must be a list"),
    ("priors", "[nonsense]", "known: "),
    ("priors", "['__class__']", "known: "),
    ("priors", "[{isotropic: {scale: -1}}]", "greater than 0|at least 0"),
    ("priors", "[{isotropic: {scale: .nan}}]", "finite|null|number"),
    ("priors", "[{isotropic: {scale: .inf}}]", "finite"),
    ("priors", "[{isotropic: {scale: 1e400}}]", "finite"),
    ("priors", "[{isotropic: {scale: '1'}}]", "number"),
    ("priors", "[{isotropic: [1]}]", "must be"),
    ("priors", "[{posterior: {file: /dev/zero}}]", "posterior"),
    ("priors", "[{posterior: {file: ../../none}}]", "none"),
    ("priors", f"[{{posterior: {{file: {LONG}}}}}]", "too long"),
    ("priors", r'[{posterior: {file: "a\0b"}}]', "NUL character"),
    ("priors", "[{fitted: {statistics: /dev/null, task: squad}}]", "."),
    ("priors", "[{fitted: {statistics: ., task: ../../x}}]", "."),
    ("methods", "[{soft: {tokens: 0}}]", "at least 1"),
    ("methods", "[{soft: {tokens: 1.5}}]", "whole number"),
    ("methods", "[{soft: {tokens: '4'}}]", "whole number"),
    ("methods", "[{soft: {tokens: 99999999999999999999}}]", "."),
    ("methods", f"[{{soft: {{tokens: {'9' * 5000}}}}}]", "digits"),
    ("methods", "[{soft: {tokens: 4, tokenz: 4}}]", "unknown key"),
    ("tasks", "[{squad: {data: ../../none.json}}]", "does not exist"),
    ("tasks", "[{squad: {data: /dev/zero}}]", "neither a file nor a folder"),
    ("tasks", f"[{{squad: {{data: ./{LONG}}}}}]", "too long"),
    ("tasks", r'[{squad: {data: "./a\0b"}}]', "NUL character"),
    ("tasks", "[{pairs: {data: ./none.jsonl, input: '{q.__class__}', answer: a}}]", "."),
    ("tasks", "[{arithmetic: {modules: [os]}}]", "known: "),
    ("tasks", "[{arithmetic: {modules: []}}]", "."),
    ("rates", "[0]", "greater than 0"),
    ("rates", "[-1e-3]", "greater than 0"),
    ("rates", "[.nan]", "."),
    ("rates", "[true]", "must be a number"),
    ("rates", "[{relative: x}]", "must be a number"),
    ("rates", "['1e-3']", "must be a number"),
    ("rates", "[2024-01-01]", "must be a number"),
    ("rates", "[1:30]", "must be a number"),
    ("rates", "[010]", "begins with a zero"),
    ("rates", "[0x10]", "must be a number"),
    ("seeds", "[-1]", "at least 0"),
    ("seeds", "[18446744073709551616]", "less than"),
    ("seeds", "[0.5]", "whole number"),
    ("seeds", "[yes]", "whole number"),
    ("seeds", "0", "must be a list"),
    ("seeds", f"[{'1' * 5000}]", "digits"),
    ("training", "{steps: 0, batch: 8}", "at least 1"),
    ("training", "{steps: 1e3, batch: 8}", "whole number"),
    ("training", "{steps: 6, batch: 8, betas: [0.9]}", "must have 2 entries"),
    ("training", "{steps: 6, batch: 8, betas: [0.9, 1]}", "less than 1"),
    ("training", "{steps: 6, batch: 8, schedule: cosinus}", "did you mean 'cosine'"),
    ("training", "[6, 8]", "mapping"),
    ("training", "null", "mapping"),
    ("evaluation", "{examples: 0}", "at least 1"),
    ("evaluation", "{probes: [nonsense]}", "choice"),
    ("evaluation", "{also: [nonsense]}", "known: "),
    ("resources", "{cpus: 0}", "at least 1"),
    ("resources", "{patience: 0}", "greater than 0"),
    ("placement", "{replicas: 2}", "shared"),
    ("tracking", "{uri: 'sqlite:///relative.db'}", "absolute"),
    ("tracking", "{uri: 'file:///etc/passwd'}", "must be an MLflow server"),
    ("tracking", "{uri: 'javascript:alert(1)'}", "must be an MLflow server"),
    ("tracking", "{uri: 'http://'}", "must be an MLflow server"),
    ("tracking", "{uri: 'http://host:notaport'}", "must be an MLflow server"),
    ("pairing", "both", "choice"),
]

OVERRIDES: list[tuple[str, str, str]] = [
    ("nothing", "", "key.path=value"),
    ("no value", "training.steps", "key.path=value"),
    ("no key", "=5", "key.path=value"),
    ("dots alone", "..=5", "key.path=value"),
    ("an index out of range", "priors[9]=isotropic", "no place"),
    ("an invisible key", "training.st\u200beps=5", r"'training\.st\\u200beps' contains .* U\+200B"),
    ("into a number", "seeds[0].x.y=5", "no place"),
    ("an unknown key", "trainingg.steps=5", "unknown key"),
    ("no YAML", "training.steps=[", "not valid YAML"),
    ("a tag", "training.steps=!!python/name:os.system", "not valid YAML"),
    ("a bomb", "description=[&a [x, x, x], &b [" + ", ".join(["*a"] * 50_000) + "]]", "not valid YAML"),
    ("5,000 digits", f"training.steps={'9' * 5000}", "not valid YAML"),
    ("nested 600 deep", f"training.steps={'[' * 600}{']' * 600}", "not valid YAML"),
    ("a control character", "name=a\x1bb", "not valid YAML|name"),
    ("an index of 5,000 digits", f"priors[{'9' * 5000}]=x", "no place"),
    ("a path 5,000 deep", ".".join("a" * 5000) + "=1", "."),
]


def _text(content: str | bytes) -> Callable[[Path], Callable[[], object]]:
    def make(folder: Path) -> Callable[[], object]:
        path = folder / "study.yaml"
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return lambda: load_grid(path)

    return make


def _value(key: str, value: str) -> Callable[[Path], Callable[[], object]]:
    lines = [line for line in GOOD.splitlines() if not line.startswith(f"{key}:")]
    text = "\n".join([*lines, f"{key}: {value}", ""])

    def make(folder: Path) -> Callable[[], object]:
        path = folder / "study.yaml"
        path.write_text(text, encoding="utf-8")
        return lambda: plan_study(load_grid(path))

    return make


def _override(text: str) -> Callable[[Path], Callable[[], object]]:
    def make(folder: Path) -> Callable[[], object]:
        path = folder / "study.yaml"
        path.write_text(GOOD, encoding="utf-8")
        return lambda: load_grid(path, (text,))

    return make


def _place(put: Callable[[Path], object], name: str = "study.yaml") -> Callable[[Path], Callable[[], object]]:
    def make(folder: Path) -> Callable[[], object]:
        put(folder / name)
        return lambda: load_grid(folder / name)

    return make


def _search(text: str) -> Callable[[Path], Callable[[], object]]:
    def make(folder: Path) -> Callable[[], object]:
        path = folder / "study.yaml"
        path.write_text(GOOD + text, encoding="utf-8")
        return lambda: load(path)

    return make


SEARCHES: list[tuple[str, str, str]] = [
    ("a search that is a list", "search: [1]\n", "search"),
    ("a search of nothing", "search: {}\n", "required"),
    ("a search of no trials", "search: {trials: 0}\n", "at least 1"),
    ("a search with a relative database", "search: {trials: 2, storage: 'sqlite:///x.db'}\n", "search"),
]


CASES = [
    *(Case(name, _text(content), says) for name, content, says in WHOLE),
    *(Case(f"{key}: {value[:40]!a}", _value(key, value), says) for key, value, says in VALUES),
    *(Case(f"the override {name}", _override(text), says) for name, text, says in OVERRIDES),
    *(Case(name, _search(text), says) for name, text, says in SEARCHES),
    Case("missing", _place(lambda _: None), "no study file"),
    Case("a folder", _place(Path.mkdir), "is a folder, not a study file"),
    Case("a link to itself", _place(lambda path: path.symlink_to(path)), "."),
    Case("a link to nothing", _place(lambda path: path.symlink_to("nowhere")), "is a link to nowhere"),
    Case("a device without end", _place(lambda path: path.symlink_to("/dev/zero")), "larger than"),
    Case("a name of 10,000 letters", _place(lambda _: None, LONG), "too long"),
    Case("a name with a NUL", _place(lambda _: None, "a\0b"), "NUL character"),
    Case(
        "a name that colours terminals",
        _place(lambda _: None, "\x1b[31mred"),
        "control character|no study",
    ),
    Case("a name in Latin 1", _place(lambda _: None, os.fsdecode(b"caf\xe9.yaml")), "no study file"),
]
