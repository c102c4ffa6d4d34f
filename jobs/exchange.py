"""Prompts to and from other software: python -m jobs.exchange export POSTERIOR FOLDER"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from jobs.support import serving
from jobs.support.exits import status_of
from jobs.support.screen import printable
from softprior.errors import UserError
from softprior.inputs.labels import counted

if TYPE_CHECKING:
    from softprior.exchange import Exchanged

# The commands import what they need themselves: --help and a typo should not wait for torch.


def main(arguments: list[str] | None = None) -> int:
    """Runs a command; returns 2 if the user has to fix something."""
    options = _parser().parse_args(arguments)
    printable()
    run: Callable[[argparse.Namespace], int] = options.run
    return status_of(lambda: run(options))


POSTERIOR = "results/STUDY/posteriors/TRIAL.safetensors"
BASE = "the base model's name on the hub"
MODEL = "id or path of its model (default: what the file says)"

Command = Callable[[str, Callable[[argparse.Namespace], int], str], argparse.ArgumentParser]
"""Adds a command: its name, what runs it, and what it does."""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m jobs.exchange",
        description="Exchange tuned prompts with Hugging Face PEFT, its hub, vLLM and SGLang.",
        epilog="Example: python -m jobs.exchange export results/STUDY/posteriors/TRIAL.safetensors adapter",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(name: str, run: Callable[[argparse.Namespace], int], says: str) -> argparse.ArgumentParser:
        made = commands.add_parser(name, help=says, description=f"{says[0].upper()}{says[1:]}.")
        made.set_defaults(run=run)
        return made

    _add_folders(command)
    _add_hub(command)
    _add_serving(command)
    return parser


def _add_folders(command: Command) -> None:
    """Adds what reads and writes adapter folders."""
    export = command(
        "export", _export, "write the final vectors of a posterior file as a PEFT adapter folder"
    )
    export.add_argument("posterior", type=Path, help=POSTERIOR)
    export.add_argument("folder", type=Path, help="the adapter folder to write; new, or empty")
    export.add_argument("--model", metavar="ID", help=MODEL)
    export.add_argument("--base", metavar="OWNER/NAME", help=BASE)
    back = command(
        "import",
        _import,
        "write the vectors of a PEFT adapter as a posterior file, for the prior `posterior`",
    )
    back.add_argument("folder", type=Path, help="the adapter folder: adapter_config.json and safetensors")
    back.add_argument("posterior", type=Path, help="the posterior file to write; new")
    back.add_argument(
        "--model", metavar="ID", required=True, help="the base model: an id, a path or hub:OWNER/NAME"
    )
    back.add_argument(
        "--revision", default="main", help="commit, tag or branch of a hub model (default: main)"
    )
    back.add_argument("--task", type=int, metavar="N", help="which prompt of a multitask adapter, from 0")
    card = command("card", _card, "write a trial's prompt as an adapter folder with a model card")
    card.add_argument("results", help="results/STUDY")
    card.add_argument("trial", help="the trial's id, or its first 6 characters")
    card.add_argument("folder", type=Path, help="the folder to write; new, or empty")
    card.add_argument("--base", metavar="OWNER/NAME", help=BASE)
    for exporting in (export, card):
        exporting.add_argument(
            "--no-check", action="store_true", help="do not load the model to compare logits"
        )


def _add_hub(command: Command) -> None:
    """Adds what others see of a prompt: a row of a comparison, and a repository on the hub."""
    row = command("row", _row, "write a trial as a result of PEFT's method comparison, in JSON")
    row.add_argument("results", help="results/STUDY")
    row.add_argument("trial", help="the trial's id, or its first 6 characters")
    row.add_argument("file", type=Path, help="the JSON file to write; new")
    row.add_argument("--base", metavar="OWNER/NAME", help=BASE)
    push = command("push", _push, "send a folder of `card` to the Hugging Face hub, with the hub's own login")
    push.add_argument("folder", type=Path, help="what `card` has written")
    push.add_argument("repo", metavar="OWNER/NAME", help="the model repository; made if it does not exist")
    push.add_argument("--private", action="store_true", help="make a private repository")
    push.add_argument("--dry-run", action="store_true", help="check the folder and send nothing")


def _add_serving(command: Command) -> None:
    """Adds what servers of models read."""
    embed = command(
        "embed", serving.embed, "write a soft prompt in front of texts as embeddings, a file per text"
    )
    embed.add_argument("posterior", type=Path, help=POSTERIOR)
    embed.add_argument(
        "texts", type=Path, help="a file with one text per line; in a .jsonl file, one JSON string per line"
    )
    embed.add_argument("folder", type=Path, help="the folder to write; new, or empty")
    embed.add_argument("--model", metavar="ID", help=MODEL)
    embed.add_argument("--scaled", action="store_true", help="accept a model that multiplies its embeddings")
    complete = command(
        "complete", serving.complete, "have a server continue the texts of `embed`, as JSON lines"
    )
    complete.add_argument("folder", type=Path, help="what `embed` has written")
    complete.add_argument("server", metavar="URL", help="such as http://localhost:8000")
    complete.add_argument("--served", metavar="NAME", help="the model's name at a vLLM server")
    complete.add_argument("--sglang", action="store_true", help="the server is SGLang's")
    complete.add_argument(
        "--tokens", type=_positive, default=20, metavar="N", help="most new tokens (default: 20)"
    )


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number of at least 1, not '{text}'")
    return int(text)


def _export(options: argparse.Namespace) -> int:
    from softprior.exchange import export_adapter

    check = not options.no_check
    made = export_adapter(options.posterior, options.folder, options.model, base=options.base, check=check)
    _tell(made, options.folder)
    for line in _origin(options.posterior):
        print(line)
    return 0


def _origin(posterior: str) -> list[str]:
    """Which trial of a study a posterior in the study's folder is of, and whether the study still has it."""
    from softprior.results.folder import POSTERIORS, StudyFolder
    from softprior.results.records import load_record, read_study
    from softprior.results.storage import location

    path = location(posterior)
    folder = StudyFolder(path.parent.parent)
    if path.parent.name != POSTERIORS or not folder.record(path.stem).exists():
        return []
    record = load_record(folder.record(path.stem))
    loss = "" if record.test is None else f", test loss {record.test.loss:.3f}"
    lines = [f"trained by {record.label}: {counted(len(record.steps), 'step')}{loss}"]
    if folder.study.exists() and path.stem not in read_study(folder.study)["trials"]:
        lines.append(f"note: the study in {folder.root} no longer has this trial; its settings have changed")
    return lines


def _tell(made: Exchanged, folder: Path) -> None:
    # Without a dtype transformers takes that of the file, in which the same prompt gives other numbers.
    named = {"revision": made.revision, "dtype": made.dtype}
    of = ", ".join([f'"{made.base}"', *(f'{key}="{value}"' for key, value in named.items() if value)])
    print(f"wrote {folder}: {counted(made.tokens, 'vector')} of the method {made.method}; load it with:")
    print(
        f"  model = AutoModelFor{'Seq2Seq' if made.stack == 'encoder' else 'Causal'}LM.from_pretrained({of})"
    )
    print(f'  model = PeftModel.from_pretrained(model, "{folder}")')
    if (read := made.agreement) is not None:
        print(
            f"read back: logits of {counted(read.rows, 'row')} differ by at most {read.difference:.2g}; "
            f"rounding in {read.dtype} explains {read.allowed:.2g}, and the prompt changes them by up to "
            f"{read.effect:.2g}"
        )


def _import(options: argparse.Namespace) -> int:
    from softprior.exchange import import_adapter
    from softprior.inputs.specs import ModelSpec

    # What is stored does not depend on the device, and the CPU is always there.
    model = ModelSpec(id=options.model, revision=options.revision, device="cpu")
    made = import_adapter(options.folder, options.posterior, model, options.task)
    vectors = counted(made.tokens, "vector")
    print(f"wrote {options.posterior}: {vectors}; start a study of this model from them with:")
    print(f"  priors: [{{posterior: {{file: {options.posterior}}}}}]")
    print(f"  methods: [{{{made.method}: {{tokens: {made.tokens}}}}}]")
    return 0


def _card(options: argparse.Namespace) -> int:
    from analysis.card import exportable, model_card
    from softprior.exchange import export_adapter
    from softprior.library.results import Results

    results = Results(options.results)
    record = exportable(results, options.trial)
    made = export_adapter(
        results.folder.posterior(record.id),
        options.folder,
        base=options.base,
        check=not options.no_check,
        card=lambda base, revision: model_card(results, record, base, revision),
    )
    _tell(made, options.folder)
    print(f"push it with: python -m jobs.exchange push {options.folder} OWNER/NAME")
    return 0


def _row(options: argparse.Namespace) -> int:
    from analysis.card import exportable
    from analysis.method_comparison import comparison_row
    from softprior.exchange.adapters import writing
    from softprior.library.results import Results
    from softprior.results.files import write_json

    if options.file.exists():
        raise UserError(f"{options.file} already exists and would be overwritten; choose another file")
    results = Results(options.results)
    row = comparison_row(results, exportable(results, options.trial), options.base)
    with writing(options.file):
        write_json(options.file, row)
    print(f"wrote {options.file}; a table compares rows of one task and one base model")
    return 0


def _push(options: argparse.Namespace) -> int:
    from softprior.exchange import push

    made = push(options.folder, options.repo, private=options.private, dry=options.dry_run)
    files = f"{counted(len(made.sizes), 'file')} to {made.repo}"
    print(f"sent {files}: {made.address}" if made.address else f"would send {files}")
    for name, size in made.sizes.items():
        print(f"  {size:>9,} bytes  {name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
