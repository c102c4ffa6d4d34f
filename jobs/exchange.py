"""Prompts to and from Hugging Face PEFT: python -m jobs.exchange export POSTERIOR FOLDER"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from jobs.exits import status_of
from jobs.screen import printable
from softprior.inputs.labels import counted


def main(arguments: list[str] | None = None) -> int:
    """Exports or imports; returns 2 if the user has to fix something."""
    options = _parser().parse_args(arguments)
    printable()
    return status_of(lambda: _export(options) if options.command == "export" else _import(options))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m jobs.exchange",
        description="Exchange tuned prompts of the methods soft and prefix with Hugging Face PEFT.",
        epilog="Example: python -m jobs.exchange export results/STUDY/posteriors/TRIAL.safetensors adapter",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="export | import")
    export = commands.add_parser(
        "export",
        help="a posterior file as an adapter folder",
        description="Write the final vectors of a posterior file as a PEFT adapter folder.",
    )
    export.add_argument("posterior", type=Path, help="results/STUDY/posteriors/TRIAL.safetensors")
    export.add_argument("folder", type=Path, help="the adapter folder to write; new, or empty")
    export.add_argument("--model", metavar="ID", help="id or path of its model (default: what the file says)")
    export.add_argument("--no-check", action="store_true", help="do not load the model to compare logits")
    back = commands.add_parser(
        "import",
        help="an adapter folder as a posterior file",
        description="Write the vectors of a PEFT adapter as a posterior file, for the prior `posterior`.",
    )
    back.add_argument(
        "folder", type=Path, help="the adapter folder, with adapter_config.json and safetensors"
    )
    back.add_argument("posterior", type=Path, help="the posterior file to write; new")
    back.add_argument(
        "--model", metavar="ID", required=True, help="the base model: an id, a path or hub:OWNER/NAME"
    )
    back.add_argument(
        "--revision", default="main", help="commit, tag or branch of a hub model (default: main)"
    )
    back.add_argument("--task", type=int, metavar="N", help="which prompt of a multitask adapter, from 0")
    return parser


def _export(options: argparse.Namespace) -> int:
    # This brings in torch and transformers, which --help and a typo should not wait for.
    from softprior.exchange import export_adapter

    made = export_adapter(options.posterior, options.folder, options.model, check=not options.no_check)
    # Without a dtype transformers takes that of the file, in which the same prompt gives other numbers.
    named = {"revision": made.revision, "dtype": made.dtype}
    of = ", ".join([f'"{made.base}"', *(f'{key}="{value}"' for key, value in named.items() if value)])
    vectors = counted(made.tokens, "vector")
    print(f"wrote {options.folder}: {vectors} of the method {made.method}; load it with:")
    print(f"  model = AutoModelForCausalLM.from_pretrained({of})")
    print(f'  model = PeftModel.from_pretrained(model, "{options.folder}")')
    if (read := made.agreement) is not None:
        print(
            f"read back: logits of {counted(read.rows, 'row')} differ by at most {read.difference:.2g}; "
            f"rounding in {read.dtype} explains {read.allowed:.2g}, and the prompt changes them by up to "
            f"{read.effect:.2g}"
        )
    return 0


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


if __name__ == "__main__":
    sys.exit(main())
