"""The catalogue of named models and data sets, with their sources and licences."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from softprior.errors import UserError, suggestion
from softprior.inputs.base import Name, Spec
from softprior.inputs.study_files import parse_value
from softprior.inputs.validation import validate


class RegistryFile(Spec):
    """One file of a package registry: only members of it are read, and nothing is installed or run.

    Attributes:
        project: name in the registry.
        version: exact version.
        filename: exact file name; `.whl` is a wheel (zip), `.tar.gz` a source distribution.
        sha256: of the file, hexadecimal.
        size: of the file, in bytes.
    """

    kind: Literal["registry"] = "registry"
    project: str
    version: str
    filename: Annotated[str, Field(pattern=r"^[^/\\]+\.(whl|tar\.gz)$")]
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    size: Annotated[int, Field(gt=0)]

    @model_validator(mode="after")
    def _of_this_version(self) -> RegistryFile:
        start = f"{self.project}-{self.version}".lower().replace("_", "-")
        if not self.filename.lower().replace("_", "-").startswith(start):
            raise ValueError(f"the file '{self.filename}' does not belong to {self.project} {self.version}")
        return self

    @property
    def files(self) -> tuple[RegistryFile, ...]:
        """What is fetched."""
        return (self,)


class JoinedFile(Spec):
    """One file whose parts are members of several files of a package registry.

    Attributes:
        filename: name of the joined file.
        sha256: of the joined file, as its publisher states it.
        files: one for each part, in order.
    """

    kind: Literal["joined"]
    filename: Annotated[str, Field(pattern=r"^[^/\\]+$")]
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    files: Annotated[tuple[RegistryFile, ...], Field(min_length=2)]


class Terms(Spec):
    """Terms of use that go with an asset, which are more than a licence's name says.

    Attributes:
        name: what they are called.
        address: where their publisher states them.
        source: the file of a package registry that carries their text.
        member: the text in it, which is kept beside the asset.
    """

    name: str
    address: str
    source: RegistryFile
    member: str

    def sentence(self, id: str) -> str:
        """That an asset is used under these terms."""
        return f"{id}: its use is subject to the {self.name} ({self.address})"


class PackageFolder(Spec):
    """A folder that is shipped inside the softprior package.

    Attributes:
        folder: path below the package, with forward slashes.
    """

    kind: Literal["package"]
    folder: str


class Generator(Spec):
    """A library that generates the data: nothing is fetched."""

    kind: Literal["generator"]
    project: str
    version: str


class HubDataset(Spec):
    """A data set on the Hugging Face hub, which is streamed.

    Attributes:
        repo: `owner/name`.
        config: the part of the data set.
        revision: commit, so that the data cannot change.
    """

    kind: Literal["hub"]
    repo: str
    config: str
    revision: Annotated[str, Field(pattern=r"^[0-9a-f]{40}$")]


class Sizes(Spec):
    """What is known about a model before it is fetched.

    Attributes:
        parameters: for estimates.
        blocks, hidden, keys, positions, vocabulary: for checks; `assets.models.Shape` says what they are.
        queries, inner: of models of Llama's kind; `assets.models.Widths` says what they are.
    """

    parameters: int | None = None
    blocks: int | None = None
    hidden: int | None = None
    keys: int | None = None
    positions: int | None = None
    vocabulary: int | None = None
    queries: int | None = None
    inner: int | None = None


class Asset(Sizes):
    """One entry of the catalogue.

    Attributes:
        about: what it is, in a sentence or two.
        licence: of the asset itself, not of the package that carries it.
        source: where it comes from.
        members: what is extracted from an archive; everything else in it is ignored. In a joined file there
            is one member for each of its files.
        terms: shown wherever the asset is planned with or fetched; None where the licence says everything.
        end: the text of a model's end-of-sequence token.
        reserved: number of a model's tokens that stand for no text.
        spans: whether a model has tokens that go over the space in front of a word.
    """

    about: str
    licence: str
    source: Annotated[
        RegistryFile | JoinedFile | PackageFolder | Generator | HubDataset, Field(discriminator="kind")
    ]
    members: tuple[str, ...] = ()
    terms: Terms | None = None
    end: str | None = None
    reserved: int = 0
    spans: bool = False

    @model_validator(mode="after")
    def _members_of_archives(self) -> Asset:
        if bool(self.members) != isinstance(self.source, RegistryFile | JoinedFile):
            raise ValueError("members must be given for registry files, and only for them")
        if isinstance(self.source, JoinedFile) and len(self.members) != len(self.source.files):
            raise ValueError("a joined file must have one member for each of its files")
        return self


class Catalogue(Spec):
    """All named models and data sets.

    Attributes:
        hub: sizes of models on the hub, by `owner/name`; those of others are known once they are fetched.
    """

    models: dict[Name, Asset]
    hub: dict[str, Sizes] = {}
    data: dict[Name, Asset]


@lru_cache
def catalogue() -> Catalogue:
    """The catalogue of the package, `assets/catalogue.yaml`."""
    path = Path(__file__).with_name("catalogue.yaml")
    return validate(Catalogue, parse_value(path.read_text(encoding="utf-8")), str(path))


def data_asset(id: str) -> Asset:
    """The data set with that id.

    Raises:
        UserError: there is none.
    """
    known = catalogue().data
    if id not in known:
        raise UserError(f"there is no data set '{id}'; {suggestion(id, list(known))}")
    return known[id]


def registry_file(asset: Asset) -> RegistryFile:
    """The source of an asset that is known to come from a package registry."""
    if not isinstance(asset.source, RegistryFile):
        raise TypeError(f"the source is a {asset.source.kind}, not a registry file")
    return asset.source
