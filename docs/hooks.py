"""What MkDocs calls before the build: blocks of the pages may import `pictures`."""

import sys
from pathlib import Path
from typing import Any


def on_startup(**_: Any) -> None:
    """Put this folder on the path, which MkDocs sets back after it has loaded this file."""
    sys.path.insert(0, str(Path(__file__).parent))
