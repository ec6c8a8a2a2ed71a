"""The samplers inside trainers and loaders of others: epochs, ranks, resuming."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset

import parallel
from imbalanced_losses import ClassBalancedSampler, StratifiedBatchSampler

TARGETS = torch.arange(4).repeat_interleave(torch.tensor([57, 30, 9, 4]))
DATA = TensorDataset(torch.arange(100.0).view(-1, 1))
KINDS = ("balanced", "stratified")


def make_loader(kind: str, loader: Any = DataLoader, workers: int = 0, **ranks: int) -> Any:
    """A loader of batches of seven rows, and its sampler."""
    processes = parallel.WORKERS if workers else {}
    if kind == "balanced":
        sampler = ClassBalancedSampler(TARGETS, 0.5, **ranks)
        options = {"batch_size": 7, "sampler": sampler, "drop_last": True}
        return loader(DATA, **processes, **options), sampler
    batches = StratifiedBatchSampler(TARGETS, batch_size=7, **ranks)
    return loader(DATA, **processes, batch_sampler=batches), batches


def rows_of(loader: Any) -> list[list[int]]:
    """The rows of each batch that is left."""
    return [[int(row) for row in batch[0].flatten()] for batch in loader]


def epochs_of(kind: str, count: int) -> list[list[list[int]]]:
    """The batches of the first epochs, in one process."""
    loader, sampler = make_loader(kind)
    plans = []
    for epoch in range(count):
        sampler.set_epoch(epoch)
        plans.append(rows_of(loader))
    return plans


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.filterwarnings("ignore:`isinstance.treespec, LeafSpec.` is deprecated")
@pytest.mark.filterwarnings("ignore:.*does not have many workers")
@pytest.mark.filterwarnings("ignore:.*smaller than the logging interval")
@pytest.mark.filterwarnings("ignore:.*your dataloader is not resumable")
@pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty")
def test_lightning_names_the_epochs_and_resumes_where_the_sampler_is_told(
    kind: str, tmp_path: Path
) -> None:
    lightning = pytest.importorskip("lightning")
    checkpoints = pytest.importorskip("lightning.pytorch.callbacks")

    class Module(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.head = torch.nn.Linear(1, 1)
            self.seen: list[list[int]] = []

        def training_step(self, batch: Any, _: int) -> torch.Tensor:
            self.seen += rows_of([batch])
            return self.head(batch[0]).mean()

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD(self.parameters(), 0.01)

    def fit(loader: Any, resume: Path | None = None, **options: Any) -> list[list[int]]:
        saver = checkpoints.ModelCheckpoint(tmp_path, every_n_train_steps=17, save_top_k=-1)
        trainer = lightning.Trainer(
            max_epochs=3,
            accelerator="cpu",
            callbacks=[saver],
            logger=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            **options,
        )
        module = Module()
        trainer.fit(module, loader, ckpt_path=resume)
        return module.seen

    wanted = [batch for epoch in epochs_of(kind, 3) for batch in epoch]
    assert fit(make_loader(kind)[0]) == wanted

    path = next(tmp_path.glob("*step=17.ckpt"))
    saved = torch.load(path, weights_only=False)
    progress = saved["loops"]["fit_loop"]["epoch_loop.batch_progress"]["current"]
    loader, sampler = make_loader(kind)
    sampler.set_epoch(saved["epoch"])
    sampler.set_progress(progress["processed"] * (7 if kind == "balanced" else 1))
    assert fit(loader, path) == wanted[17:]


def test_lightning_over_several_devices_leaves_the_rows_alone_or_names_the_setting() -> None:
    data = pytest.importorskip("lightning.pytorch.utilities.data")
    loader, sampler = make_loader("balanced", num_replicas=2, rank=0)
    # Lightning puts a sampler of its own in the place of any that is not of this class.
    assert isinstance(sampler, DistributedSampler)
    loader, _ = make_loader("stratified", num_replicas=2, rank=0)
    own = DistributedSampler(DATA, num_replicas=2, rank=0)
    with pytest.raises(TypeError, match=r"Trainer\(use_distributed_sampler=False\)"):
        data._update_dataloader(loader, own)


def _with_accelerate(rank: int) -> dict[str, Any]:
    """What this rank is handed in three epochs, and after skipping three batches of the second."""
    with pytest.MonkeyPatch.context() as environment:
        for name in ("RANK", "LOCAL_RANK"):
            environment.setenv(name, str(rank))
        environment.setenv("WORLD_SIZE", "2")
        environment.setenv("MASTER_ADDR", "127.0.0.1")  # asked for, though the group is live
        environment.setenv("MASTER_PORT", "0")
        environment.setenv("OMP_NUM_THREADS", "1")  # accelerate warns where it is unset
        accelerate = pytest.importorskip("accelerate")
        accelerator = accelerate.Accelerator(cpu=True)
        assert accelerator.num_processes == 2
        seen: dict[str, Any] = {}
        for kind in KINDS:
            with pytest.raises(RuntimeError, match="num_replicas=1, rank=0"):
                next(iter(make_loader(kind)[1]))
            loader = accelerator.prepare(make_loader(kind, num_replicas=1, rank=0)[0])
            seen[kind] = [rows_of(loader) for _ in range(3)]
            loader.set_epoch(1)
            seen[kind].append(rows_of(accelerate.skip_first_batches(loader, 3)))
    return seen


def test_accelerate_shares_a_plan_once_and_can_skip_its_first_batches() -> None:
    pytest.importorskip("accelerate")
    for rank, seen in enumerate(parallel.run(2, _with_accelerate)):
        for kind in KINDS:
            wanted = [epoch[rank::2] for epoch in epochs_of(kind, 3)]
            assert seen[kind] == [*wanted, wanted[1][3:]]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.filterwarnings("ignore:.set_vital. is deprecated")
def test_the_stateful_loader_of_torchdata_resumes_by_itself(kind: str, workers: int) -> None:
    stateful = pytest.importorskip("torchdata.stateful_dataloader").StatefulDataLoader
    wanted = epochs_of(kind, 3)
    for stop in (0, 5, 14):
        loader, _ = make_loader(kind, stateful, workers)
        rows_of(loader)
        running = iter(loader)
        assert rows_of([next(running) for _ in range(stop)]) == wanted[1][:stop]
        resumed, _ = make_loader(kind, stateful, workers)
        resumed.load_state_dict(loader.state_dict())
        assert [rows_of(resumed), rows_of(resumed)] == [wanted[1][stop:], wanted[2]]
