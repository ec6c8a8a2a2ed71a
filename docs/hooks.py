"""What MkDocs calls: blocks of the pages may import `pictures`, and the study has its pictures."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files

STUDY = Path(__file__).parents[1] / "benchmarks" / "evidence"


def on_startup(**_: Any) -> None:
    """Put this folder on the path, which MkDocs sets back after it has loaded this file."""
    sys.path.insert(0, str(Path(__file__).parent))


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    """Put the pictures of the study beside the page that includes it."""
    from mkdocs.structure.files import File  # the tests read this file where there is no MkDocs

    for path in sorted(STUDY.glob("pictures/*.svg")):
        place = f"explanation/pictures/{path.name}"
        files.append(File.generated(config, place, abs_src_path=str(path)))
    return files
