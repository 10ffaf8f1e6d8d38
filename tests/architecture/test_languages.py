"""Every sentence people see exists in both languages, says the same in both, and none is left over (I18-1).

English is the source: what stands in ``_("…")``, ``noop("…")``, in an error or a notice is looked for in the
Chinese catalogues. Templates must not hold words outside ``_()`` at all.
"""

import ast
import re
from collections.abc import Iterator
from functools import cache
from html.parser import HTMLParser
from pathlib import Path

import jinja2
import pytest
from babel.messages.pofile import read_po
from jinja2 import nodes

from kernel import errors, i18n

ROOT = Path(__file__).parents[2]
PACKAGES = sorted(path.parent for path in ROOT.glob("*/__init__.py") if not path.parent.name.startswith("."))
TEMPLATES = ROOT / "api" / "web" / "templates"
CATALOGUES = sorted((i18n.LOCALE / "zh").glob("*.po"))
MARKS = {"_", "gettext", "noop"}
# What forbids starting is read by whoever runs the command line, which speaks English; it may be translated.
SENTENCES = {
    name
    for name, kind in vars(errors).items()
    if isinstance(kind, type) and issubclass(kind, errors.FixwrightError) and kind is not errors.Misconfigured
}
"""The errors whose first argument is a sentence for people."""
SHOWN = {"notice"}
"""Arguments that are sentences by their name: what ``pages.go`` shows once."""
SAME_IN_BOTH = {
    "Fixwright", "English", "中文", "Ctrl K", "CSV", "PDF", "MQTT", "QR", "SLA", "WeChat", "Apache-2.0", "JSON", "SVG",
    "PNG", "Authorization: Bearer …",
}  # fmt: skip
"""Words that templates may hold as they are: names, and what is typed."""
READ = {"alt", "aria-label", "aria-description", "placeholder", "title", "summary"}
"""Attributes that are read to people."""


# ── What is said ──────────────────────────────────────────────────────────────────────────────────────────────


@cache
def said() -> dict[str, str]:
    """Return every sentence → the place where it stands."""
    found: dict[str, str] = {}
    for package in PACKAGES:
        for path in sorted(package.rglob("*.py")):
            for sentence, line in of_python(path.read_text()):
                found.setdefault(sentence, f"{path.relative_to(ROOT)}:{line}")
    for path in sorted(TEMPLATES.rglob("*.html")):
        for sentence, line in of_template(path.read_text()):
            found.setdefault(sentence, f"{path.relative_to(ROOT)}:{line}")
    return found


def of_python(text: str, spoken_by: frozenset[str] = frozenset(MARKS | SENTENCES)) -> Iterator[tuple[str, int]]:
    for node in ast.walk(ast.parse(text)):
        if not isinstance(node, ast.Call):
            continue
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        spoken = node.args[:1] if name in spoken_by else []
        for argument in (*spoken, *(one.value for one in node.keywords if one.arg in SHOWN)):
            if isinstance(argument, ast.Constant) and isinstance(argument.value, str) and argument.value:
                yield argument.value, argument.lineno


def of_template(text: str) -> Iterator[tuple[str, int]]:
    for call in jinja2.Environment(autoescape=True).parse(text).find_all(nodes.Call):
        if isinstance(call.node, nodes.Name) and call.node.name == "_" and call.args:
            for constant in constants(call.args[0]):
                yield constant.value, constant.lineno


def constants(node: nodes.Node) -> Iterator[nodes.Const]:
    """Yield the texts an expression may become: a constant, a branch of a condition, a value of a table."""
    if isinstance(node, nodes.Const) and isinstance(node.value, str):
        yield node
    elif isinstance(node, nodes.CondExpr):
        for branch in filter(None, (node.expr1, node.expr2)):
            yield from constants(branch)
    elif isinstance(node, nodes.Getitem) and isinstance(node.node, nodes.Dict):
        for pair in node.node.items:
            yield from constants(pair.value)
    elif isinstance(node, nodes.Call) and isinstance(node.node, nodes.Getattr):
        yield from constants(nodes.Getitem(node.node.node, node.args[0], "load"))
        for default in node.args[1:]:
            yield from constants(default)


def placeholders(sentence: str) -> set[str]:
    return set(re.findall(r"{(\w*)", sentence))


@cache
def translations() -> dict[str, list[tuple[str, str, bool]]]:
    """Return sentence → (file, Chinese, whether somebody doubted it) for every entry of every catalogue."""
    found: dict[str, list[tuple[str, str, bool]]] = {}
    for path in CATALOGUES:
        with path.open("rb") as file:
            for message in read_po(file, locale="zh"):
                if isinstance(message.id, str) and message.id:
                    found.setdefault(message.id, []).append((path.name, str(message.string), message.fuzzy))
    return found


# ── The questions ─────────────────────────────────────────────────────────────────────────────────────────────


def test_I18_1_every_sentence_has_its_chinese() -> None:
    missing = {place: sentence for sentence, place in said().items() if sentence not in translations()}
    assert missing == {}


def test_I18_1_a_translation_has_the_same_placeholders() -> None:
    differ = {
        sentence: chinese
        for sentence, entries in translations().items()
        for _, chinese, _ in entries
        if placeholders(sentence) != placeholders(chinese)
    }
    assert differ == {}


def test_I18_1_no_translation_is_empty_doubted_or_english() -> None:
    bad = {
        sentence: entries
        for sentence, entries in translations().items()
        for _, chinese, fuzzy in entries
        if not chinese.strip() or fuzzy or (chinese == sentence and re.search(r"[a-z]{4}", sentence))
    }
    assert bad == {}


def test_I18_1_no_sentence_is_translated_in_two_ways() -> None:
    differ = {
        sentence: entries for sentence, entries in translations().items() if len({one for _, one, _ in entries}) > 1
    }
    assert differ == {}


def test_I18_1_no_translation_is_left_over() -> None:
    refusals = {
        sentence
        for package in PACKAGES
        for path in package.rglob("*.py")
        for sentence, _ in of_python(path.read_text(), frozenset({"Misconfigured"}))
    }
    left = translations().keys() - said().keys() - refusals
    assert {sentence: translations()[sentence] for sentence in left} == {}


@pytest.mark.parametrize("path", sorted(TEMPLATES.rglob("*.html")), ids=lambda path: str(path.relative_to(TEMPLATES)))
def test_I18_1_a_template_holds_no_words_outside_of_gettext(path: Path) -> None:
    page = Words()
    page.feed(without_jinja(path.read_text()))
    page.close()
    assert page.found == []


def without_jinja(text: str) -> str:
    """Return a template's HTML alone: what Jinja writes stands as a blank, its comments as nothing."""
    text = re.sub(r"{#.*?#}", "", text, flags=re.DOTALL)
    text = re.sub(r"{%.*?%}", "", text, flags=re.DOTALL)
    text = re.sub(r"{{.*?}}", " ", text, flags=re.DOTALL)
    # Attributes that a macro or a block hands on to an element elsewhere.
    return re.sub(r'(?<=[\s"])(?!(?:alt|title|placeholder|aria-label)=)[\w:-]+="[^"<>]*"(?=[^<>]*(?:<|$))', " ", text)


class Words(HTMLParser):
    """Collects the words of a page that people would read."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.within: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.within.append(tag)
        for name, value in attrs:
            if name in READ:
                self._read(value or "")

    def handle_endtag(self, tag: str) -> None:
        while self.within and self.within.pop() != tag:
            pass

    def handle_data(self, data: str) -> None:
        if not {"script", "style"} & set(self.within):
            self._read(data)

    def _read(self, text: str) -> None:
        for allowed in sorted(SAME_IN_BOTH, key=len, reverse=True):
            text = text.replace(allowed, " ")
        self.found += re.findall(r"[^\W\d_]{2,}", text)


@pytest.mark.parametrize("path", sorted(TEMPLATES.rglob("*.html")), ids=lambda path: str(path.relative_to(TEMPLATES)))
def test_I18_1_no_sentence_is_written_into_an_expression_of_a_template(path: Path) -> None:
    tree = jinja2.Environment(autoescape=True).parse(path.read_text())
    translated = {
        id(constant)
        for call in tree.find_all(nodes.Call)
        if isinstance(call.node, nodes.Name) and call.node.name == "_"
        for constant in call.find_all(nodes.Const)
    }
    naked = [
        node.value
        for node in tree.find_all(nodes.Const)
        if isinstance(node.value, str)
        and id(node) not in translated
        and node.value not in SAME_IN_BOTH | said().keys()
        and re.fullmatch(r"[A-Z][a-z]+([ ,][A-Za-z]+)*[.…?!]?", node.value)
    ]
    assert naked == []
