"""What the page on rules shows is what the grammar accepts."""

import json
import re
from pathlib import Path

import pytest

from rules import compiled, conditions, sentences

PAGE = Path(conditions.__file__).parent.parent / "docs" / "rules.md"
BLOCKS = re.findall(r"```json\n(.*?)```", PAGE.read_text(), re.DOTALL)


@pytest.mark.parametrize("block", BLOCKS)
def test_a_definition_on_the_page_is_accepted_compiled_and_told(block: str) -> None:
    definition = conditions.parse(json.loads(block))
    assert compiled.compile_definition(definition).creates
    assert all(sentence for _, sentence in sentences.told(definition, {}).create)


def test_the_page_shows_every_kind_of_question() -> None:
    assert len(BLOCKS) == 7
    for kind in ("compare", "boolean", "text", "no_data", "expression", "window", "weekly", "quiet", "attribute"):
        assert f'"{kind}"' in "".join(BLOCKS)
