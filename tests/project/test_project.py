"""The project's shell: version, hints how to install, continuous integration, citation."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.version import Version

import imbalanced_losses

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[2]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PROJECT = PYPROJECT["project"]
WORKFLOWS = ROOT / ".github" / "workflows"


def loaded(path: Path) -> dict:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def files_of_the_project() -> list[Path]:
    """What git tracks or would add; without git, as in a source archive, every file."""
    listing = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    names = listing.stdout.split("\0")[:-1] or ROOT.glob("**/*")
    return [ROOT / name for name in names if (ROOT / name).is_file()]


def test_the_version_stands_in_one_place() -> None:
    source = ROOT / PYPROJECT["tool"]["hatch"]["version"]["path"]
    assert PROJECT["dynamic"] == ["version"]
    assert "version" not in PROJECT
    assert source.samefile(imbalanced_losses.__file__)
    literal = re.findall(r'(?m)^__version__ = "(.+)"$', source.read_text(encoding="utf-8"))
    assert literal == [imbalanced_losses.__version__]
    assert str(Version(literal[0])) == literal[0]


def test_no_sentence_sends_anyone_to_the_public_index() -> None:
    """There, another project's release answers to this distribution's name."""
    hint = re.compile(r"(?:pip3?\s+install|uv\s+add)\s+(?:-\S+\s+)*[\"'`]?imbalanced[-_.]losses")
    assert hint.search("Run pip install -U 'imbalanced-losses[lightning]'.")
    texts = {}
    for path in files_of_the_project():
        if path != Path(__file__) and b"\0" not in (content := path.read_bytes()):
            texts[path.name] = content.decode()
    assert {"README.md", "pyproject.toml", "lightning.py"} <= set(texts)
    assert [name for name, text in texts.items() if hint.search(text)] == []


def test_every_extra_that_a_hint_names_exists() -> None:
    named = set()
    for path in files_of_the_project():
        if path.suffix in {".py", ".md"}:
            named |= set(re.findall(r"pip install [\"'`]\.\[(\w+)\]", path.read_text("utf-8")))
    extras = set(PROJECT["optional-dependencies"])
    assert {"lightning", "transformers", "compare"} <= named <= extras


def test_ci_runs_the_oldest_and_the_newest_that_is_promised() -> None:
    promised = [
        version.rpartition(" ")[2]
        for version in PROJECT["classifiers"]
        if re.fullmatch(r"Programming Language :: Python :: 3\.\d+", version)
    ]
    jobs = loaded(WORKFLOWS / "ci.yml")["jobs"]
    runs = jobs["tests"]["strategy"]["matrix"]["include"]
    oldest, newest = runs[0], runs[-1]
    assert [oldest["python"], newest["python"]] == [promised[0], promised[-1]]
    assert PROJECT["requires-python"] == f">={oldest['python']}"

    (torch,) = (r for r in map(Requirement, PROJECT["dependencies"]) if r.name == "torch")
    tested = Requirement(oldest["torch"]).specifier
    floor = Version(next(iter(torch.specifier)).version)
    assert torch.specifier == SpecifierSet(f">={floor}")
    assert floor in tested
    assert Version(f"{floor.major}.{floor.minor + 1}") not in tested
    assert newest["torch"] == "torch"
    assert "make check" in [step.get("run") for step in jobs["checks"]["steps"]]


def test_a_release_is_built_from_its_tag_and_stays_off_the_public_index() -> None:
    text = (WORKFLOWS / "release.yml").read_text(encoding="utf-8")
    release = yaml.safe_load(text)
    assert release[True] == {"push": {"tags": ["v*"]}}  # YAML 1.1 reads `on` as true
    runs = [step.get("run", "") for job in release["jobs"].values() for step in job["steps"]]
    assert 'test "$GITHUB_REF_NAME" = "v$(pipx run hatch version)"' in runs
    assert "pipx run twine check --strict dist/*" in runs
    assert any(run.startswith("gh release create") for run in runs)
    assert "pypi" not in text
    assert "twine upload" not in text


@pytest.mark.parametrize("name", ["ci.yml", "release.yml"])
def test_a_workflow_may_not_write_unless_a_job_says_so(name: str) -> None:
    workflow = loaded(WORKFLOWS / name)
    assert workflow["permissions"] == {"contents": "read"}
    for job in workflow["jobs"].values():
        assert job["timeout-minutes"] <= 60
        for step in job["steps"]:
            assert re.fullmatch(r"actions/[\w-]+@v\d+", step.get("uses", "actions/own@v1"))


def test_pre_commit_and_make_check_use_the_same_ruff_and_mypy() -> None:
    (ruff,) = re.findall(r"(?m)^ruff==(.+)$", (ROOT / "constraints.txt").read_text("utf-8"))
    repos = {repo["repo"]: repo for repo in loaded(ROOT / ".pre-commit-config.yaml")["repos"]}
    (astral,) = (repo for name, repo in repos.items() if name.endswith("/ruff-pre-commit"))
    assert astral["rev"] == f"v{ruff}"
    assert [hook["id"] for hook in astral["hooks"]] == ["ruff-check", "ruff-format"]
    (mypy,) = repos["local"]["hooks"]
    assert mypy["entry"] == ".venv/bin/mypy"


def test_issue_forms_ask_for_something() -> None:
    for name in ("bug.yml", "feature.yml"):
        form = loaded(ROOT / ".github" / "ISSUE_TEMPLATE" / name)
        assert {"name", "description", "body"} <= set(form)
        ids = [field["id"] for field in form["body"]]
        assert len(ids) == len(set(ids)) > 1
        assert all(field["attributes"]["label"] for field in form["body"])


def test_the_citation_is_of_this_project() -> None:
    citation = loaded(ROOT / "CITATION.cff")
    assert citation["cff-version"] == "1.2.0"
    assert {"message", "authors", "type"} <= set(citation)
    assert citation["title"] == imbalanced_losses.__name__
    assert citation["license"] == PROJECT["license"]
    (author,) = citation["authors"]
    assert author["name"] in (ROOT / "LICENSE").read_text(encoding="utf-8")
