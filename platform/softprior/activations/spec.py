"""What an activations file asks for."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from softprior.assets.named import Named
from softprior.inputs.base import FolderName, Name, Spec
from softprior.inputs.entries import Entry
from softprior.inputs.specs import ModelSpec, ResourcesSpec, TrackingSpec
from softprior.tasks.base import Split

SITE = r"((encoder|decoder)\.)?((resid|key|value)\.(0|[1-9][0-9]*)|final)"


class FilesSpec(Spec):
    """Documents in files of any size, read piece by piece.

    Attributes:
        name: of the task in the store.
        path: a file or a pattern (`data/*.jsonl`). `.jsonl` and `.json` contain one object per line, `.txt`
            one document per line, `.parquet` one document per row; `.gz` files are read whole by one worker.
        column: the key or column of the document in an object or row.
        length: longest text in tokens; a document is cut into texts of this length.
    """

    name: Name
    path: str
    column: str = "text"
    length: Annotated[int, Field(ge=2)] = 256


class PromptSpec(Spec):
    """A trained prompt whose own states are collected.

    Attributes:
        name: of the prompt in the store, the findings and the figures.
        file: a posterior file that a study left; it may be in a bucket.
    """

    name: Name
    file: Named


class ActivationsSpec(Spec):
    """One run over tasks x sites x token classes of a frozen model.

    Attributes:
        tasks: as in a study; their examples are read with the answer.
        files: documents beside the tasks.
        split: the split of the tasks. Priors should be fitted only on `train`.
        tokens: most tokens of each task, in its own order; null takes all. Files are read whole.
        sites: `residual` is every `resid.l` and `final`; `all` has keys and values too; or a list.
        sample: vectors kept of every token class at every site: what findings need. Moments are of all
            tokens, so `fitted` needs no more; a `vae` trains on the sample and needs some 20,000.
        sequences: texts of each task that are also read with their words shuffled, for trajectories.
        massive: a token is massive if its norm is more than this many times its site's median.
        exact: products in float64 instead of float32; twice as slow and for oracles.
        prompt: a posterior file whose trained prompt is put in front of every text.
        prompts: posteriors whose states at the prompt's own positions are collected, as the token class
            `prompt`. They change nothing else in the store.
        shard_tokens: tokens between two writings of partial results.
        batch_tokens: most tokens of one forward pass.
        seed: of the samples.
        resources: of one worker; `concurrent` is the number of workers.
    """

    name: FolderName
    description: str = ""
    model: ModelSpec
    tasks: tuple[Entry, ...] = ()
    files: tuple[FilesSpec, ...] = ()
    split: Split = "train"
    tokens: Annotated[int, Field(ge=1)] | None = None
    sites: Literal["residual", "all"] | tuple[str, ...] = "residual"
    sample: Annotated[int, Field(ge=2)] = 1000
    sequences: Annotated[int, Field(ge=0)] = 256
    massive: Annotated[float, Field(gt=1)] = 10.0
    exact: bool = False
    prompt: Named | None = None
    prompts: tuple[PromptSpec, ...] = ()
    shard_tokens: Annotated[int, Field(ge=1)] = 32_768
    batch_tokens: Annotated[int, Field(ge=1)] = 4096
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    resources: ResourcesSpec = ResourcesSpec()
    tracking: TrackingSpec = TrackingSpec()

    @field_validator("sites")
    @classmethod
    def _known(cls, sites: str | tuple[str, ...]) -> str | tuple[str, ...]:
        if isinstance(sites, str):
            return sites
        if not sites:
            raise ValueError("is empty; name a site, such as resid.0, or write residual for all of them")
        for site in sites:
            if not re.fullmatch(SITE, site):
                raise ValueError(
                    f"names '{site}', which is not a site; write resid.0, final, key.3 or value.3, preceded "
                    "by 'encoder.' or 'decoder.' in models with an encoder"
                )
        if len(set(sites)) < len(sites):
            raise ValueError("names a site twice; name each site once")
        return sites

    @model_validator(mode="after")
    def _something(self) -> ActivationsSpec:
        if self.resources.patience is not None:
            raise ValueError("resources.patience belongs to studies and has no effect here; leave it out")
        names = [entry.name for entry in self.tasks] + [files.name for files in self.files]
        if "vocabulary" in names:
            raise ValueError("the name vocabulary is reserved for the store's embeddings; rename the files")
        if not names:
            raise ValueError("tasks and files are both empty; name a task, such as squad, or a file")
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise ValueError(
                f"tasks and files name '{twice}' twice, but each needs its own folder; rename or merge them"
            )
        followed = [prompt.name for prompt in self.prompts]
        again = next((name for name in followed if followed.count(name) > 1), None)
        if again is not None:
            raise ValueError(f"prompts names '{again}' twice, but a name stands for one prompt; rename one")
        return self

    @property
    def workers(self) -> int:
        """Number of workers, each with a model of its own."""
        return self.resources.concurrent or 1
