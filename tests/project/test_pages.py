"""The README and the pages of `docs/`: code runs as it stands there, and prints what they say."""

import contextlib
import io
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("**/*.md"))]
# A block of Python, and the block of text right below it, if there is one: what it prints.
BLOCK = re.compile(r"^```python\n(.*?)^```\n(?:\n```text\n(.*?)^```\n)?", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"\]\((?!https?:)([^)#]+)(?:#[^)]*)?\)")


def named(page: Path) -> str:
    return str(page.relative_to(ROOT))


def run(text: str) -> None:
    """Run the blocks of one page one after the other, in one namespace."""
    namespace: dict[str, object] = {}
    for code, expected in BLOCK.findall(text):
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(code, namespace)
        assert printed.getvalue() == expected


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_code_of_a_page_runs_and_prints_what_the_page_says(page) -> None:
    run(page.read_text(encoding="utf-8"))


def test_no_block_of_python_is_overlooked() -> None:
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        assert len(BLOCK.findall(text)) == text.count("```py")
    assert BLOCK.search(PAGES[0].read_text(encoding="utf-8"))


def test_an_output_that_differs_is_found() -> None:
    run("```python\nprint(1)\n```\n\n```text\n1\n```\n")
    with pytest.raises(AssertionError):
        run("```python\nprint(1)\n```\n\n```text\n2\n```\n")
    with pytest.raises(AssertionError):
        run("```python\nprint(1)\n```\n")


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_links_of_a_page_lead_somewhere(page) -> None:
    for link in LINK.findall(page.read_text(encoding="utf-8")):
        assert (page.parent / link).exists(), link
