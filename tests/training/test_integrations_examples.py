"""The examples for torchrun and Accelerate: two processes against one, started as users do."""

import re
from pathlib import Path

import pytest

import launch

EXAMPLES = Path(__file__).parents[2] / "examples"


def losses(printed: str) -> dict[str, float]:
    """What each rank ends with, by "rank of ranks"."""
    found = re.findall(r"rank (\d of \d): final loss (\d\.\d{4})", printed)
    return {rank: float(loss) for rank, loss in found}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["torchrun_ddp", "accelerate_training"])
def test_two_processes_end_with_the_loss_of_one(name: str) -> None:
    if name == "accelerate_training":
        pytest.importorskip("accelerate")
    command = EXAMPLES / f"{name}.py", "--rows=700", "--epochs=4"
    one = losses(launch.python(*command, **launch.RANKS).stdout)["0 of 1"]
    assert 0 < one < 1
    two = losses(launch.torchrun(*command))
    assert two == {"0 of 2": pytest.approx(one, abs=2e-4), "1 of 2": two["0 of 2"]}
