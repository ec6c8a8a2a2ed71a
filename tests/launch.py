"""Start scripts in interpreters of their own, as users do."""

import os
import subprocess
import sys
from pathlib import Path

# On the loopback alone, and on CPUs, which a machine has enough of for two processes.
LOOPBACK = "lo0" if sys.platform == "darwin" else "lo"
RANKS = {"GLOO_SOCKET_IFNAME": LOOPBACK, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
TORCHRUN = (
    "-m",
    "torch.distributed.run",
    "--standalone",
    "--local-addr=127.0.0.1",
    "--nproc-per-node=2",
)
PATIENCE = 300  # seconds: long for a machine that is busy


def environment(**changes: str) -> dict[str, str]:
    """That of this process with its modules; coverage, which doubles the time, stays out."""
    kept = {name: value for name, value in os.environ.items() if "COVERAGE" not in name}
    return {**kept, "PYTHONPATH": os.pathsep.join(sys.path), **changes}


def python(*arguments: str | Path, **changes: str) -> subprocess.CompletedProcess[str]:
    """Run an interpreter to its end; the test fails with its errors where it fails."""
    done = subprocess.run(
        [sys.executable, *arguments],
        env=environment(**changes),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert done.returncode == 0, done.stderr
    return done


def torchrun(*arguments: str | Path) -> str:
    """What two ranks print. They share the output: their lines may stand within each other's."""
    with subprocess.Popen(
        [sys.executable, *TORCHRUN, *arguments],
        env=environment(**RANKS),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        # Gloo's threads outlive their group: when all is done, torch now and then aborts, or one
        # rank never ends. What the ranks have done by then is judged.
        try:
            stdout, stderr = process.communicate(timeout=PATIENCE)
            assert process.returncode == 0 or "Signal 6 (SIGABRT)" in stderr, stderr
        except subprocess.TimeoutExpired:
            process.terminate()  # the launcher ends its ranks
            stdout, _ = process.communicate()
    return stdout
