import pytest

from softprior.assets.catalogue import Catalogue, JoinedFile, RegistryFile, catalogue, data_asset
from softprior.errors import UserError
from softprior.inputs.validation import validate


def test_the_catalogue_names_what_the_platform_needs() -> None:
    assert set(catalogue().models) >= {"smollm2-135m-instruct-q4_1", "tiny"}
    assert set(catalogue().data) >= {"squad-shifts", "wikipedia-106", "mathematics", "c4"}


def test_every_archive_is_identified() -> None:
    assets = [*catalogue().models.values(), *catalogue().data.values()]
    sources = [asset.source for asset in assets if isinstance(asset.source, RegistryFile | JoinedFile)]
    files = [file for source in sources for file in source.files]
    assert len(files) >= len(sources) + 3
    assert len({file.sha256 for file in files}) == len(files)
    assert all(file.size > 1e6 for file in files)


def test_an_unknown_data_set_is_named_with_the_nearest() -> None:
    with pytest.raises(UserError, match="did you mean 'squad-shifts'"):
        data_asset("squad-shift")


def test_a_file_of_another_version_is_refused() -> None:
    entry = catalogue().data["squad-shifts"].model_dump(mode="json")
    entry["source"]["version"] = "1.0.1"
    with pytest.raises(UserError, match=r"does not belong to bigbench 1\.0\.1"):
        validate(Catalogue, {"models": {}, "data": {"squad-shifts": entry}}, "catalogue.yaml")


def test_a_joined_file_has_one_member_for_each_of_its_files() -> None:
    entry = catalogue().models["gemma3-270m-q4_k_m"].model_dump(mode="json")
    entry["members"] = entry["members"][1:]
    with pytest.raises(UserError, match="must have one member for each of its files"):
        validate(Catalogue, {"models": {"gemma": entry}, "data": {}}, "catalogue.yaml")
