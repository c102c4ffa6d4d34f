"""Splits of questions, by hand."""

from softprior.tasks.base import SPLITS
from softprior.tasks.squad_splits import Standing, divide


def test_an_article_stays_together_and_a_paragraph_in_the_last_of_its_splits():
    """One part: three articles, one per split, that share a paragraph and have one of their own each."""
    asked = [Standing(title, context) for title in "abc" for context in (0, title)]
    found = divide(asked, [])
    assert found.evaluation == []
    places = {title: found.training[1 + 2 * i] for i, title in enumerate("abc")}
    assert sorted(places.values()) == sorted(SPLITS)
    for i, title in enumerate("abc"):
        assert found.training[2 * i] == ("test" if places[title] == "test" else None)
    assert dict(found.notes) == {"shared_context": 2}
    assert found.sizes == {"train": 1, "validation": 1, "test": 2}


def test_what_is_evaluated_on_is_not_trained_on():
    """Two parts: an article of both, and a paragraph of both."""
    trained = [Standing("own", 1), Standing("own", 2), Standing("x", 3)]
    evaluated = [Standing("x", 4), Standing("y", 2), Standing("y", 5)]
    found = divide(trained, evaluated)
    assert found.training == ["train", None, None]
    assert {found.evaluation[0], found.evaluation[1]} == {"validation", "test"}
    assert found.evaluation[1] == found.evaluation[2]
    assert dict(found.notes) == {"shared_article": 1, "shared_context": 1}


def test_without_anything_shared_nothing_is_left_out():
    found = divide([Standing("a", 1)], [Standing("x", 2), Standing("y", 3)])
    assert (found.training, found.sizes) == (["train"], {"train": 1, "validation": 1, "test": 1})
    assert not +found.notes
