"""The README and the pages of `docs/`: what stands there runs, and prints what they say.

`python -m pytest tests/project/test_pages.py --update-examples` writes the output anew.
"""

import inspect
import re
from collections.abc import Sequence
from pathlib import Path

import pytest
from pytest_examples import CodeExample, EvalExample, find_examples
from pytest_examples.run_code import InsertPrintStatements
from test_project import PROJECT
from typer.main import get_command

from imbalanced_losses._cli import app

# Long runs of what other tests cover.
pytestmark = pytest.mark.no_cover

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("**/*.md"))]
LINE_LENGTH = 88
LINK = re.compile(r"\]\((?!https?:)([^)#]+)(?:#[^)]*)?\)")
FENCE = re.compile(r"^ *```.*?^ *```", re.DOTALL | re.MULTILINE)
NUMBER = re.compile(r"\d+(?:\.(\d+))?")
SHELL = re.compile(r"^ *```(?:bash|sh|console)\b.*?\n(.*?)^ *```", re.DOTALL | re.MULTILINE)


def named(page: Path) -> str:
    return str(page.relative_to(ROOT))


def blocks_of(page: Path) -> list[CodeExample]:
    """The Python of a page, without the files that it only shows: those have tests of their own."""
    return [block for block in find_examples(page) if not block.source.startswith("--8<--")]


WITH_PYTHON = [page for page in PAGES if blocks_of(page)]


def agree(shown: str, printed: str) -> bool:
    """Whether two texts are the same but for two units in the last place of a decimal number.

    The same training ends a little elsewhere on a processor that rounds its sums in another order.
    """
    if NUMBER.sub("0", shown) != NUMBER.sub("0", printed):
        return False
    for one, other in zip(NUMBER.finditer(shown), NUMBER.finditer(printed), strict=True):
        decimals = one[1] or ""
        slack = 2.1 * 10 ** -len(decimals) if decimals else 0
        if len(decimals) != len(other[1] or "") or abs(float(one[0]) - float(other[0])) > slack:
            return False
    return True


def is_shown(file: Path, frame: inspect.FrameInfo, printed: Sequence[object]) -> bool:
    """Whether this is printed by the block in `file`; what libraries print is not shown."""
    source = Path(frame.filename)
    if source.parent == file.parent and source != file:
        raise AssertionError(
            f"{' '.join(map(str, printed))!r} would stand nowhere on the page: it is printed by a "
            "function of a block above. Return the text, and print it in the block that calls."
        )
    return source == file


def run(block: CodeExample, names: dict[str, object], evaluate: EvalExample) -> None:
    """Run a block after those above it, and hold what it prints against the page."""
    file = evaluate.tmp_path / f"{block.module_name}.py"
    file.write_text(block.source, encoding="utf-8")
    is_picture = "exec=" in block.prefix
    printed = InsertPrintStatements(
        file, evaluate.config, enable=not is_picture, print_callback=None, include_print=is_shown
    )
    try:
        with printed:
            exec(compile(block.source, file, "exec"), names)
    except Exception as error:
        raise AssertionError(f"{block} raises {error!r}") from error
    if is_picture:
        return
    changed = printed.updated_print_statements(block)
    if changed is None:
        return
    if evaluate.update_examples:
        block.source = changed
        evaluate.to_update.append(block)
    elif not agree(block.source, changed):
        printed.check_print_statements(block)


@pytest.mark.parametrize("page", WITH_PYTHON, ids=named)
def test_code_of_a_page_runs_and_prints_what_the_page_says(
    page: Path, eval_example: EvalExample, monkeypatch: pytest.MonkeyPatch
) -> None:
    eval_example.set_config(line_length=LINE_LENGTH)
    monkeypatch.chdir(eval_example.tmp_path)
    names: dict[str, object] = {"__name__": "__main__"}
    for block in blocks_of(page):
        run(block, names, eval_example)


def test_an_output_that_differs_is_found(eval_example: EvalExample) -> None:
    run(CodeExample.create("print(0.25)\n#> 0.26\n"), {}, eval_example)
    for text in ("print(0.25)\n#> 0.28\n", "print(7)\n#> 8\n", "print('a')\n#> b\n", "print(1)\n"):
        with pytest.raises(pytest.fail.Exception, match="Print output changed"):
            run(CodeExample.create(text), {}, eval_example)


def test_an_error_in_a_block_is_found(eval_example: EvalExample) -> None:
    with pytest.raises(AssertionError, match=r"testing.md:0-1 raises ZeroDivisionError"):
        run(CodeExample.create("1 / 0\n"), {}, eval_example)


def test_a_block_sees_the_names_of_the_blocks_above_it(eval_example: EvalExample) -> None:
    names: dict[str, object] = {}
    run(CodeExample.create("value = 2\n"), names, eval_example)
    run(CodeExample.create("print(value + 1)\n#> 3\n"), names, eval_example)


def test_what_a_function_of_an_earlier_block_prints_is_not_lost(eval_example: EvalExample) -> None:
    names: dict[str, object] = {}
    run(CodeExample.create("def say():\n    print(1)\n"), names, eval_example)
    with pytest.raises(AssertionError, match="would stand nowhere on the page"):
        run(CodeExample.create("say()\n", start_line=5), names, eval_example)


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_a_fence_of_python_is_one_that_runs(page: Path) -> None:
    fences = re.findall(r"^ *```+ *\{?\.?(py\w*|Py\w*)", page.read_text("utf-8"), re.MULTILINE)
    assert len(fences) == len(list(find_examples(page)))
    assert set(fences) <= {"python"}


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_links_of_a_page_lead_somewhere(page: Path) -> None:
    for link in LINK.findall(FENCE.sub("", page.read_text(encoding="utf-8"))):
        assert (page.parent / link).exists(), link


def commands() -> list[tuple[str, str]]:
    """Every line that a reader would copy into a shell, without its comment."""
    lines = [
        (named(page), line.partition(" #")[0].strip())
        for page in [*PAGES, ROOT / "CONTRIBUTING.md"]
        for block in SHELL.findall(page.read_text(encoding="utf-8"))
        for line in block.replace("\\\n", " ").splitlines()
    ]
    return [(page, command) for page, command in lines if command]


def is_known(command: str) -> bool:
    """Whether targets, extras, files and options that a command names exist."""
    program, *words = command.split()
    program = Path(program).name
    if program == "make":
        targets = re.findall(r"(?m)^([\w-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"))
        return set(words) <= set(targets)
    if program == "pip":
        extras = ",".join(re.findall(r"\.\[([\w,]+)\]", command))
        return set(extras.split(",")) - {""} <= set(PROJECT["optional-dependencies"])
    if program == "imbalanced-losses":
        known = get_command(app).commands.get(words[0])
        options = {word.split("=")[0] for word in words if word.startswith("-")}
        return known is not None and options <= {o for p in known.params for o in p.opts}
    files = [ROOT / word for word in words if "/" in word]
    if not all(file.exists() for file in files):
        return False
    if program == "python" and words[0].endswith(".py"):
        options = [word.split("=")[0] for word in words if word.startswith("-")]
        return all(f'"{option}"' in (ROOT / words[0]).read_text("utf-8") for option in options)
    return program in {"python", "torchrun"}


@pytest.mark.parametrize(("page", "command"), commands())
def test_a_command_that_a_page_shows_exists(page: str, command: str) -> None:
    assert is_known(command), f"{page}: {command}"


def test_a_command_that_does_not_exist_is_found() -> None:
    assert is_known("make demo")
    assert is_known("imbalanced-losses compare data.csv --target fraud --budget 0.005")
    assert not is_known("imbalanced-losses compare data.csv --tea 3")
    assert not is_known("imbalanced-losses brew data.csv")
    for command in ("make tea", 'pip install -e ".[tea]"', "python examples/tea.py", "tea --hot"):
        assert not is_known(command)
    assert is_known("python examples/binary_rare_positives.py --epochs 3")
    assert not is_known("python examples/binary_rare_positives.py --tea 3")
