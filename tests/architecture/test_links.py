"""Every link and picture in the documents leads somewhere: to a file of this tree that is there."""

import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")


def links() -> Iterator[tuple[str, str]]:
    """Yield (document, target) of every link that is not an address of the web."""
    for document in (*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")):
        for target in LINK.findall(document.read_text()):
            if "://" not in target and not target.startswith(("#", "mailto:")):
                yield str(document.relative_to(ROOT)), target.partition("#")[0]


def test_no_link_or_picture_of_the_documents_is_dead() -> None:
    found = list(links())
    assert len(found) > 10
    assert [(page, target) for page, target in found if not (ROOT / page).parent.joinpath(target).exists()] == []
