"""Plain text from the wiki markup of a MediaWiki dump."""

# ruff: noqa: RUF001  the dashes and quotes of prose are what this file is about

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import IO, NamedTuple
from xml.etree import ElementTree

import mwparserfromhell
from mwparserfromhell.nodes import ExternalLink, Heading, HTMLEntity, Tag, Template, Text, Wikilink

CLEANING_VERSION = 1
"""Increased whenever `plain_text` gives other text for the same markup; fingerprints contain it."""

# What cannot be said in plain words. A formula leaves a hole that makes its whole paragraph broken
# English; a pronunciation or a foreign spelling usually stands in brackets and can be left out there.
_HOLE = "\ue000"
_ASIDE = "\ue001"

_NAMESPACES = re.compile(r"^\s*:?(file|image|category|media|template|portal|[a-z]{2,3}(-[a-z-]+)?)\s*:", re.I)
_REFERENCES = re.compile(r"<ref\b[^>]*/>|<ref\b[^>]*>.*?</ref\s*>|<!--.*?-->", re.I | re.S)
_ASIDES = re.compile(rf"[^,;()]*{_ASIDE}[^,;()]*[,;]?(?=[^()]*\))")
_SPACES = re.compile(r"[\s\u200b\u200e\ufeff]+")
_EMPTY_BRACKETS = re.compile(r"\s*[(\[]\s*(?:(?:[,;:.–—/-]|or|and|pronounced|listen|IPA)\s*)*[)\]]", re.I)
_BEGINS = re.compile(r"[\"“‘'(\[]*[A-Z0-9ÁÉÅÄÖÜ]")
_ENDS = re.compile(r"[.!?][\"”’')\]]*$")
_LEFTOVER = re.compile(
    rf"[{{}}|{_HOLE}{_ASIDE}<>=]|\[\[|\]\]|\bISBN\b|\b(?:https?:|www\.)|, ?[,.](?!\.)|__[A-Z]+__"
)
_SUPERSCRIPTS = str.maketrans("0123456789+-−–()n", "⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁻⁻⁽⁾ⁿ")


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split(", "))


_DROPPED_SECTIONS = _names(
    "references, notes, footnotes, citations, sources, bibliography, external links, see also, "
    "further reading, gallery, works cited, notes and references, general references, filmography, "
    "discography, selected bibliography, publications, works, awards and nominations"
)
_DROPPED_TAGS = _names(
    "ref, references, table, gallery, timeline, score, imagemap, hiero, pre, syntaxhighlight, source, "
    "templatestyles, hr"
)
_BLOCKS = frozenset({"blockquote", "p", "div", "center", "poem"})
_FORMULAS = frozenset({"math", "chem", "ce"})

# What a template stands for: fixed words, one of its parameters, or nothing that can be said.
_LITERALS = {
    "ndash": "–", "–": "–", "endash": "–", "spaced ndash": " – ", "snd": " – ", "spnd": " – ", "dash": " – ",
    "mdash": "—", "—": "—", "emdash": "—", "mdashb": "—", "nbsp": " ", "thinsp": " ", "'": "'", "'s": "'s",
    "' \"": "'\"", "\" '": "\"'", "pi": "π", "ad": "AD", "bce": "BCE", "ce": "CE", "·": "·", "•": "•",
}  # fmt: skip
_FORMULA_TEMPLATES = _names(
    "math, mvar, chem, chem2, e, val, su, sup sub, frac, sfrac, nuclide, nuclide2, simplenuclide, "
    "simplenuclide2, bigmath, currentyear, music, railgauge, inflation, eqm, =, !"
)
_KEPT_WORD = {
    "lang": 1, "transl": -1, "nowrap": 0, "nobr": 0, "quote": 0, "cquote": 0, "blockquote": 0, "quotation": 0,
    "bquote": 0, "abbr": 0, "tooltip": 0, "sub": 0, "formatnum:": 0, "small": 0, "smaller": 0, "smallcaps": 0,
    "sc": 0, "em": 0, "visible anchor": 0, "vanchor": 0, "ill": 0, "interlanguage link": 0, "script": -1,
    "unicode": 0, "polytonic": 0, "angbr": 0, "vr": 0, "flag": 0, "ship": 1, "uss": 0, "hms": 0,
}  # fmt: skip
_RANGES = {"to": " to ", "-": "–", "–": "–", "and": " and ", "by": " by ", "x": " by ", "or": " or "}
_UNITS = {
    "km2": "square kilometres", "sqmi": "square miles", "sqkm": "square kilometres", "mi": "miles",
    "km": "kilometres", "m": "metres", "ft": "feet", "in": "inches", "cm": "centimetres",
    "mm": "millimetres", "kg": "kilograms", "lb": "pounds", "F": "°F", "C": "°C", "K": "K", "ha": "hectares",
    "acre": "acres", "mph": "miles per hour", "nmi": "nautical miles", "m2": "square metres",
    "km/h": "kilometres per hour", "yd": "yards", "oz": "ounces", "g": "grams", "t": "tonnes",
}  # fmt: skip


class Article(NamedTuple):
    """One article: its title, and its paragraphs separated by blank lines."""

    title: str
    text: str


def read_dump(stream: IO[bytes]) -> Iterator[Article]:
    """The articles of an XML dump, without redirects and other namespaces; `text` is wiki markup."""
    for _, page in ElementTree.iterparse(stream):  # noqa: S314  a file whose sha256 was checked
        name, _, kind = page.tag.rpartition("}")
        if kind != "page":
            continue
        space = f"{name}}}" if name else ""
        if page.findtext(f"{space}ns") == "0" and page.find(f"{space}redirect") is None:
            markup = page.findtext(f"{space}revision/{space}text") or ""
            yield Article(page.findtext(f"{space}title") or "", markup)
        page.clear()


def plain_text(markup: str) -> str:
    """The running text of an article: whole sentences, paragraphs separated by blank lines.

    Templates that stand for words are spelled out, all others are dropped, and so are headings,
    tables, references, files, closing sections, list items that are not sentences, and every
    paragraph with a formula or with markup that could not be read.
    """
    kept: list[str] = []
    dropped_level = 0
    for node in mwparserfromhell.parse(_REFERENCES.sub("", markup)).nodes:
        if isinstance(node, Heading):
            if not dropped_level or node.level <= dropped_level:
                title = _render(node.title.nodes).strip().lower()
                dropped_level = node.level if title in _DROPPED_SECTIONS else 0
            kept.append("\n\n")
        elif not dropped_level:
            kept.append(_render([node]))
    paragraphs = (_tidy(paragraph) for paragraph in re.split(r"\n\s*\n", "".join(kept)))
    return "\n\n".join(paragraph for paragraph in paragraphs if _is_prose(paragraph))


def _render(nodes: Iterable[object]) -> str:
    return "".join(_render_node(node) for node in nodes)


def _render_node(node: object) -> str:
    if isinstance(node, Text):
        return str(node.value)
    if isinstance(node, Wikilink):
        if _NAMESPACES.match(str(node.title)):
            return ""
        return _render((node.title if node.text is None else node.text).nodes)
    if isinstance(node, ExternalLink):
        return "" if node.title is None else _render(node.title.nodes)
    if isinstance(node, HTMLEntity):
        return str(node.normalize())
    if isinstance(node, Tag):
        return _render_tag(node)
    if isinstance(node, Template):
        return _render_template(node)
    return ""


def _render_tag(tag: Tag) -> str:
    name = str(tag.tag).strip().lower()
    if name in _FORMULAS:
        return _HOLE
    if name in ("li", "dd", "dt") and tag.wiki_markup:
        return "\n\n"
    if name == "br":
        return " "
    if name in _DROPPED_TAGS or tag.contents is None:
        return ""
    contents = _render(tag.contents.nodes)
    if name == "sup" and not re.search(r"[A-Za-mo-z]", contents):
        return contents.translate(_SUPERSCRIPTS)
    return f"\n\n{contents}\n\n" if name in _BLOCKS else contents


def _render_template(template: Template) -> str:
    name = str(template.name).strip().lower().replace("_", " ")
    words = [_render(p.value.nodes).strip() for p in template.params if not p.showkey]
    if name in _LITERALS:
        return _LITERALS[name]
    if name in _FORMULA_TEMPLATES:
        return _HOLE
    if name.startswith(("ipa", "lang-", "respell", "nihongo")):
        return _ASIDE
    if name in ("convert", "cvt") and len(words) >= 2:
        return _converted(words)
    if name in ("circa", "c.", "ca."):
        return " ".join(["c.", *words[:1]])
    if name == "as of":
        return " ".join(["As of", *words[:1]])
    place = _KEPT_WORD.get(name)
    if place is None or not -len(words) <= place < len(words):
        return ""
    return f"\n\n{words[place]}\n\n" if "quot" in name else words[place]


def _converted(words: list[str]) -> str:
    if len(words) >= 4 and words[1] in _RANGES:
        return f"{words[0]}{_RANGES[words[1]]}{words[2]} {_UNITS.get(words[3], words[3])}"
    return f"{words[0]} {_UNITS.get(words[1], words[1])}"


def _tidy(paragraph: str) -> str:
    text = _SPACES.sub(" ", re.sub("'{2,}", "", paragraph)).strip(" *#:;")
    text = _ASIDES.sub("", text)
    previous = None
    while previous != text:  # an empty bracket may stand in a bracket
        previous = text
        text = _EMPTY_BRACKETS.sub("", text)
    text = re.sub(r"([(\[])[\s,;:]+", r"\1", text)
    text = re.sub(r"[\s,;:]+([)\]])", r"\1", text)
    text = re.sub(r" +([,;.?!:])(?=\s|$)", r"\1", text)
    return text.strip()


def _is_prose(text: str) -> bool:
    if _LEFTOVER.search(text) or len(text.split()) < 6:
        return False
    return bool(_BEGINS.match(text) and _ENDS.search(text))
