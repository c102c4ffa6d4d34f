import io

import pytest

from softprior.assets.wikipedia import plain_text, read_dump

DUMP = """<mediawiki xmlns="http://www.mediawiki.org/xml/export-0.10/">
<page><title>One</title><ns>0</ns><revision><text>First text.</text></revision></page>
<page><title>Two</title><ns>0</ns><redirect title="One"/><revision><text>#REDIRECT</text></revision></page>
<page><title>Help:Three</title><ns>12</ns><revision><text>Help.</text></revision></page>
</mediawiki>"""


def test_redirects_and_other_namespaces_are_left_out() -> None:
    assert list(read_dump(io.BytesIO(DUMP.encode()))) == [("One", "First text.")]


@pytest.mark.parametrize(
    ("markup", "text"),
    [
        ("'''Bold''' [[a|words]] and [[links]] are ''kept'' here.", "Bold words and links are kept here."),
        ("A file[[File:x.jpg|thumb|A [[nested]] caption.]] is not part of it.", "A file is not part of it."),
        ("Notes<ref name=a>A note.</ref><ref name=a /> are not part of it.", "Notes are not part of it."),
        ("An open <!-- hidden --> remark is not part of it.", "An open remark is not part of it."),
        ("Zeus ({{lang-el|Ζεύς}}; {{IPAc-en|z|u|s}}) was king of the gods.", "Zeus was king of the gods."),
        ("Zeus ({{IPAc-en|z|u|s}}, a god) was king of them.", "Zeus (a god) was king of them."),
        ("It is {{convert|12|km|mi}} from here&nbsp;to there.", "It is 12 kilometres from here to there."),
        ("It is {{convert|2|to|3|km2}} large{{citation needed}}, they say.",
         "It is 2 to 3 square kilometres large, they say."),
        ("About 10<sup>6</sup> of H<sub>2</sub>O on the 20<sup>th</sup> day.",
         "About 10⁶ of H2O on the 20th day."),
        ("One line of a paragraph\nand the next of it.", "One line of a paragraph and the next of it."),
    ],
)  # fmt: skip
def test_markup_becomes_running_text(markup: str, text: str) -> None:
    assert plain_text(markup) == text


@pytest.mark.parametrize(
    "markup",
    [
        "{| class=wikitable\n| A cell that has a whole sentence in it.\n|}",
        "Where <math>x^2</math> is the square of it, a hole would be left.",
        "* a list item\n* Another item of the list without its end",
        "A broken {{template that never ends is not to be read.",
        "is the continuation of what was dropped before it.",
        "== See also ==\nThis sentence is in a section that is dropped.",
    ],
)
def test_what_is_no_prose_is_dropped(markup: str) -> None:
    kept = "This sentence stays, whatever else stands there."
    assert plain_text(f"{kept}\n\n{markup}") == kept


def test_the_section_after_a_dropped_one_is_kept() -> None:
    markup = (
        "==Notes==\nA note that is a whole sentence.\n===More===\nAnother one that is a sentence.\n==Life==\n"
    )
    assert plain_text(f"{markup}She was born in a small town.") == "She was born in a small town."
