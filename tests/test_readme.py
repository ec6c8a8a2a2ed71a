"""The code in the README runs as it stands there."""

import re
from pathlib import Path

import pytest

README = Path(__file__).parents[1] / "README.md"
BLOCKS = re.findall(r"```python\n(.*?)```", README.read_text(), flags=re.DOTALL)


@pytest.mark.parametrize("block", BLOCKS)
def test_block_runs(block) -> None:
    exec(block, {})


def test_there_is_a_block() -> None:
    assert BLOCKS


@pytest.mark.parametrize("link", re.findall(r"\]\((?!http)([^)#]+)\)", README.read_text()))
def test_link_leads_somewhere(link) -> None:
    assert (README.parent / link).exists()
