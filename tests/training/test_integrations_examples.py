"""The examples for torchrun and Accelerate: two processes against one, started as users do."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
TWO = [
    "-m",
    "torch.distributed.run",
    "--standalone",
    "--local-addr=127.0.0.1",
    "--nproc-per-node=2",
]
# On the loopback alone, and on CPUs, which a machine has enough of for two processes.
LOOPBACK = "lo0" if sys.platform == "darwin" else "lo"
ENVIRONMENT = {
    "GLOO_SOCKET_IFNAME": LOOPBACK,
    "OMP_NUM_THREADS": "1",
    "CUDA_VISIBLE_DEVICES": "",
}


def printed_losses(name: str, *launcher: str) -> dict[str, float]:
    """What each rank prints, by "rank of ranks"."""
    command = [sys.executable, *launcher, str(EXAMPLES / f"{name}.py"), "--rows=700", "--epochs=4"]
    environment = os.environ | ENVIRONMENT
    with subprocess.Popen(
        command,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        # Gloo's threads outlive their group: when all is done, torch now and then aborts, or one
        # rank never ends. What the ranks have printed by then is judged.
        try:
            stdout, stderr = process.communicate(timeout=120)
            assert process.returncode == 0 or "Signal 6 (SIGABRT)" in stderr, stderr
        except subprocess.TimeoutExpired:
            process.terminate()  # the launcher ends its ranks
            stdout, _ = process.communicate()
    found = re.findall(r"rank (\d of \d): final loss (\d\.\d+)", stdout)
    return {rank: float(loss) for rank, loss in found}


@pytest.mark.parametrize("name", ["torchrun_ddp", "accelerate_training"])
def test_two_processes_end_with_the_loss_of_one(name: str) -> None:
    if name == "accelerate_training":
        pytest.importorskip("accelerate")
    one = printed_losses(name)["0 of 1"]
    assert 0 < one < 1
    two = printed_losses(name, *TWO)
    assert two == {"0 of 2": pytest.approx(one, abs=2e-4), "1 of 2": two["0 of 2"]}
