"""Install every peer into its own folder: `python -m benchmarks.install_peers`."""

import subprocess
import sys

from benchmarks.peers import PEERS


def main() -> int:
    """Run pip once for each peer that is absent; returns how many failed."""
    failures = 0
    for peer in PEERS.values():
        if peer.folder.is_dir():
            print(f"{peer.name} {peer.version} is there")
            continue
        done = subprocess.run([sys.executable, "-m", "pip", *peer.install], check=False)
        failures += done.returncode != 0
    return failures


if __name__ == "__main__":
    sys.exit(main())
