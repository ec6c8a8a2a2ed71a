"""What MkDocs loads before the build: blocks of the pages may import `pictures`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
