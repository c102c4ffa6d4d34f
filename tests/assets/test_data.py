import bz2
import io
import json
import re
import tarfile
import zipfile
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace

import pytest

from softprior.assets import data
from softprior.assets.catalogue import Asset, catalogue
from softprior.assets.data import data_fingerprint, squad_shifts_files, wikipedia_articles
from softprior.errors import UserError

PAGE = "<page><title>{}</title><ns>0</ns><revision><text>{}</text></revision></page>"


def test_fingerprints_need_no_files(cache: Path) -> None:
    known = {id: data_fingerprint(id) for id in catalogue().data}
    assert len(set(known.values())) == len(known)
    assert not cache.exists()
    with pytest.raises(UserError, match="there is no data set 'wikipedia'"):
        data_fingerprint("wikipedia")


def test_multiple_choice_sets_are_named_in_the_catalogue() -> None:
    assert set(data.CHOICE_SETS) == {id for id in catalogue().data if id.startswith("bigbench-")}
    assert all(len(catalogue().data[id].members) == 1 for id in data.CHOICE_SETS)


def test_choices_with_one_right_option_are_rows() -> None:
    scores = [{"a": 0, "b": 1, "c": 0}, {"a": 1, "b": 1}, {"a": 0.5, "b": 0.5}, {"a": 0, "b": 0}, {"a": 1}]
    task = {"examples": [{"input": f"{i}?", "target_scores": one} for i, one in enumerate(scores)]}
    assert data.choices_of(json.dumps(task)) == [
        {"question": "0?", "options": ["a", "b", "c"], "answer": 1},
    ]


def test_one_archive_is_fetched_once_for_all_of_its_sets(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Members of two sets have one file name; of the archive only these stay."""
    known = {id: catalogue().data[id].model_dump(mode="json") for id in ("squad-shifts", *data.CHOICE_SETS)}
    archive = tmp_path / "links" / known["squad-shifts"]["source"]["filename"]
    with tarfile.open(archive, "w:gz") as packed:
        for id, entry in known.items():
            for member in entry["members"]:
                task = {"examples": [{"input": id, "target_scores": {"a": 1, "b": 0}}]}
                text = json.dumps(task).encode()
                info = tarfile.TarInfo(member)
                info.size = len(text)
                packed.addfile(info, io.BytesIO(text))
    content = archive.read_bytes()
    for entry in known.values():
        entry["source"] |= {"sha256": sha256(content).hexdigest(), "size": len(content)}
    sets = {id: Asset.model_validate(entry) for id, entry in known.items()}
    monkeypatch.setattr(data, "catalogue", lambda: SimpleNamespace(data=sets))
    monkeypatch.setattr(data, "data_asset", sets.__getitem__)

    first, second = data.CHOICE_SETS
    row = {"options": ["a", "b"], "answer": 0}
    assert json.loads(data.choice_rows(first).read_text()) == {"question": first, **row}
    archive.unlink()
    assert json.loads(data.choice_rows(second).read_text()) == {"question": second, **row}
    assert all(path.is_file() for path in squad_shifts_files().values())
    assert list((cache / "downloads").iterdir()) == []

    archive.write_bytes(content)
    sets["another"] = sets[first]  # as a later version's catalogue may have
    assert json.loads(data.choice_rows("another").read_text()) == {"question": first, **row}


def test_without_network_the_archive_is_named() -> None:
    with pytest.raises(UserError, match=r"bigbench-1\.0\.0\.tar\.gz \(358 MB\) is not in the cache"):
        squad_shifts_files()


def test_articles_are_read_from_the_archive_and_only_they_stay(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = catalogue().data["wikipedia-106"].model_dump(mode="json")
    pages = PAGE.format("Long", "A sentence of some length. " * 30) + PAGE.format(
        "Short", "Too short to stay."
    )
    wheel = tmp_path / "links" / entry["source"]["filename"]
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr(entry["members"][0], bz2.compress(f"<mediawiki>{pages}</mediawiki>".encode()))
    content = wheel.read_bytes()
    entry["source"] |= {"sha256": sha256(content).hexdigest(), "size": len(content)}
    monkeypatch.setattr(data, "data_asset", lambda _: Asset.model_validate(entry))

    (article,) = wikipedia_articles()
    assert article.title == "Long"
    assert article.text == ("A sentence of some length. " * 30).strip()
    wheel.unlink()
    assert wikipedia_articles() == [article]
    assert list((cache / "downloads").iterdir()) == []


@pytest.mark.network("wikipedia-106")
def test_the_wikipedia_text_is_clean(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SOFTPRIOR_CACHE", "PIP_CONFIG_FILE", "PIP_NO_INDEX", "PIP_FIND_LINKS"):
        monkeypatch.delenv(name)
    articles = wikipedia_articles()
    text = "\n\n".join(article.text for article in articles)
    assert len(articles) == 96
    assert 2.5e6 < len(text) < 2.6e6
    assert not re.search(r"[{}|<>]|\[\[|''|==|\( *\)|\bthumb\||https?:|&[a-z]+;|  ", text)
