"""How to run the study again: command, study file, hashes, versions."""

from __future__ import annotations

import json
import shlex
from collections import Counter
from collections.abc import Mapping, Sequence

from analysis.findings.reading import Reading
from analysis.report.values import Block, Cell, Code, Section, Table, Words
from softprior.inputs.entry_texts import names
from softprior.inputs.labels import counted
from softprior.results.provenance import named

KEY, TITLE = "reproduce", "How to reproduce"


def section(reading: Reading) -> Section:
    """The command and everything that the numbers depend on."""
    header = reading.header
    name = header["spec"].get("name", reading.folder.root.name)
    spec = json.dumps(header["spec"], indent=1, ensure_ascii=False)
    blocks: list[Block] = [
        Words(
            "Save the study below as a file and run it with the same versions; trials have the same ids, and "
            "on CPUs with as many threads the same numbers. YAML readers read JSON."
        ),
        Code(_commands(name, _own_code(reading))),
        _hashes(header, reading),
        _versions(header, reading),
        Code(spec),
    ]
    return Section(key=KEY, title=TITLE, blocks=tuple(blocks))


def _commands(name: str, files: Sequence[str]) -> str:
    options = "".join(f" --code {shlex.quote(file)}" for file in files)
    return f"python -m jobs.study {name}.json{options}\npython -m jobs.report results/{name}{options}"


def _own_code(reading: Reading) -> list[str]:
    """Python files of the user's own that trials name with a hash, in the order of the study."""
    files = [origin.rpartition(" ")[0] for origin in _origins(reading)]
    return [file for file in dict.fromkeys(files) if file.endswith(".py")]


def _origins(reading: Reading) -> list[str]:
    """Code beside softprior that trials name with a hash, each once."""
    return list(dict.fromkeys(o for record in reading.ended.values() for o in record.spec.code))


def _hashes(header: Mapping[str, object], reading: Reading) -> Table:
    rows = [
        ("code of the last run", named(header)),
        ("model fingerprint", str(header.get("model_fingerprint"))),
    ]
    data = header.get("data_fingerprints")
    if isinstance(data, dict):
        tasks = names(record.spec.task for record in reading.ended.values())
        rows += [(f"data of {tasks.get(task, task)}", str(fingerprint)) for task, fingerprint in data.items()]
    rows += [("code beside softprior", origin) for origin in _origins(reading)]
    made = Counter(named(record.environment) for record in reading.ended.values())
    rows += [(f"code of {counted(count, 'trial')}", code) for code, count in made.most_common()]
    return Table(
        caption="What identifies code, model and data. From study.json and records/TRIAL.json.",
        columns=("what", "identified by"),
        rows=tuple((Cell(name), Cell(value)) for name, value in rows),
    )


def _versions(header: Mapping[str, object], reading: Reading) -> Table:
    """Versions of the last run, and those of trials that were made with others."""
    last = header.get("versions")
    found: dict[str, list[str]] = {}
    if isinstance(last, dict):
        found = {package: [str(version)] for package, version in last.items()}
    for record in reading.ended.values():
        for package, version in record.environment.get("versions", {}).items():
            if version not in found.setdefault(package, []):
                found[package].append(version)
    return Table(
        caption="Versions; of several, the first is that of the last run.",
        columns=("package", "version"),
        rows=tuple((Cell(package), Cell(", ".join(versions))) for package, versions in found.items()),
    )
