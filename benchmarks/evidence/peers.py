"""Other libraries on the folds of the study, each used as its own documents advise.

They are installed into a folder of their own and run in a process of their own
(`peer_training.py`): none belongs into the environment of this library.
"""

import json
import subprocess
import sys
from argparse import Namespace
from pathlib import Path

from benchmarks.contenders import PEERS_FOLDER
from benchmarks.evidence.chunks import restore
from benchmarks.evidence.outside import merge

FILE = "peers.csv"
CHUNKS = Path("outputs/evidence/peers")
ROOT = Path(__file__).parents[2]

# Without what they name as dependencies: torch is here, and the rest they do not need to train.
PACKAGES = ("libauc==2.0.1", "torchvision==0.28.0")
FOLDER = PEERS_FOLDER / "evidence"


def main(options: Namespace) -> int:
    """Install what is missing, fit every set that is not there yet, and write all rows."""
    if not FOLDER.is_dir():
        install = ["install", "--no-deps", "--target", str(FOLDER), *PACKAGES]
        if subprocess.run([sys.executable, "-m", "pip", *install], check=False).returncode:
            print("The peers could not be installed; pip says above why.", file=sys.stderr)
            return 1
    request = {
        "folder": str(FOLDER),
        "chunks": str(CHUNKS.resolve()),
        "keel": str(options.keel.resolve()) if options.keel else None,
        "data": str(options.data.resolve()) if options.data else None,
        "only": options.only,
        "minutes": options.minutes,
    }
    restore(options.output / FILE, CHUNKS, ["set"])
    command = [sys.executable, "-m", "benchmarks.evidence.peer_training", json.dumps(request)]
    status = subprocess.run(command, cwd=ROOT, check=False).returncode
    merge(CHUNKS, options.output / FILE)
    return status
