"""One training: a network at one learning rate, as it was when it did best on validation rows."""

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from imbalanced_losses import metrics
from imbalanced_losses._goals import Judge
from imbalanced_losses._pointwise_call import parameters
from imbalanced_losses._training.engine import Engine
from imbalanced_losses._training.settings import LOOKS, FitSettings
from imbalanced_losses.losses import choose_tau
from imbalanced_losses.recipes import Problem, Recipe
from imbalanced_losses.recipes._advice import DECIDED
from imbalanced_losses.samplers import ClassBalancedSampler, StratifiedBatchSampler

NetFactory: TypeAlias = Callable[[int, int], nn.Module]
Progress: TypeAlias = Callable[[int, int, float], None]  # steps done, steps in all, value
Tell: TypeAlias = Callable[[int, float], None]  # step, value
History: TypeAlias = tuple[tuple[int, float], ...]

# At most: a look at a fifth of the rows costs about a twelfth of an epoch.
_LOOKS_PER_EPOCH = 2
# Left to themselves, trainings have about so many steps, and epochs within these bounds.
_STEPS = 2000
_EPOCHS = (5, 400)
_TOGETHER = 16_384  # rows of one prediction
_NEVER = (-math.inf, -math.inf)


class Rows(NamedTuple):
    """Training and validation rows, on the device."""

    x: Tensor
    y: Tensor
    x_val: Tensor
    y_val: Tensor
    weight: Tensor | None
    weight_val: Tensor | None


class Validation(NamedTuple):
    """Targets of the validation rows, and how logits of theirs are judged."""

    y: Tensor
    weight: Tensor | None
    problem: Problem
    recipe: Recipe
    judge: Judge
    undoes: bool = True  # whether the recipe knows what the loss does to probabilities


class Task(NamedTuple):
    """What all trainings of one fit share."""

    make_net: NetFactory
    rows: Rows
    problem: Problem
    recipe: Recipe
    judge: Judge
    settings: FitSettings
    loss: Callable[..., Any] | None

    @property
    def validation(self) -> Validation:
        """What decides which network is kept."""
        rows, undoes = self.rows, self.loss is None
        return Validation(
            rows.y_val, rows.weight_val, self.problem, self.recipe, self.judge, undoes
        )


class Run(NamedTuple):
    """A training, as it was at one step.

    Its rank is the value of the goal, and the likelihood among equal values.
    """

    rank: tuple[float, float]
    net: nn.Module
    rate: float
    seed: int
    step: int
    history: History = ()


def train(
    task: Task,
    engine: Engine,
    rate: float,
    seed: int,
    steps: int,
    tell: Tell,
    *,
    looks: bool = True,
) -> Run:
    """Train one network; its rank is minus infinity where its logits overflowed at once.

    Without looks at validation rows it is the one after the last step.
    """
    rows, recipe = task.rows, task.recipe
    torch.manual_seed(seed)
    net = _network(task, engine.device)
    size, per_epoch, _ = plan(task)
    loss_fn, weighs = _loss_of(task, steps)
    optimizer: Any = torch.optim.AdamW(
        net.parameters(),
        rate,
        weight_decay=task.settings.weight_decay,
        fused=engine.device.type in ("cpu", "cuda"),
    )
    average = None
    if recipe.average:
        average = AveragedModel(net, multi_avg_fn=_running_mean(recipe.average), use_buffers=True)
    judged = net if average is None else average.module
    runner, optimizer = engine.setup(net, optimizer)
    batches = _batches(task, size, seed)
    hooks = [getattr(loss_fn, f"on_train_{when}_start", None) for when in ("epoch", "batch")]
    every = math.ceil(max(steps / LOOKS, per_epoch / _LOOKS_PER_EPOCH))
    best = Run(_NEVER, judged, rate, seed, 0)
    history: list[tuple[int, float]] = []
    learns, waited = False, 0
    for step in range(steps):
        if hooks[0] is not None and step % per_epoch == 0:
            hooks[0](step // per_epoch)
        if hooks[1] is not None:
            hooks[1](step)
        for group in optimizer.param_groups:
            group["lr"] = rate * (1 + math.cos(math.pi * step / steps)) / 2
        batch = engine.share(next(batches))
        weight = {"sample_weight": rows.weight[batch]} if weighs and rows.weight is not None else {}
        optimizer.zero_grad()
        loss = loss_fn(runner(rows.x[batch]), rows.y[batch], **weight)
        engine.backward(loss)
        # Asked until it is true, which is in the first step.
        learns = learns or any(p.grad is not None and bool(p.grad.any()) for p in net.parameters())
        optimizer.step()
        if average is not None:
            average.update_parameters(net)
        if not looks or ((step + 1) % every and step + 1 < steps):
            continue
        rank = rank_of(task.validation, predict(judged, rows.x_val))
        net.train()
        history.append((step + 1, rank[0]))
        tell(step + 1, rank[0])
        waited += 1
        if rank > best.rank:
            best, waited = Run(rank, copy.deepcopy(judged), rate, seed, step + 1), 0
        if rank == _NEVER or waited >= task.settings.patience:
            break
    if not learns:
        raise ValueError(
            "loss must have a gradient on the logits; it was zero in every step. The targets of "
            "binary and multi-label problems are zeros and ones of the logits' shape [N, outputs], "
            "so a softmax loss does not fit them."
        )
    tell(steps, best.rank[0])
    return best._replace(history=tuple(history))


def plan(task: Task) -> tuple[int, int, int]:
    """Rows in a batch, batches in an epoch, and steps in all."""
    rows, settings = len(task.rows.x), task.settings
    size = min(settings.batch_size, rows)
    # Stratified batches are whole ones; others share an epoch evenly.
    per_epoch = rows // size if task.recipe.sampler == "stratified" else math.ceil(rows / size)
    if settings.max_epochs != "auto":
        return size, per_epoch, settings.max_epochs * per_epoch
    least, most = _EPOCHS
    return size, per_epoch, min(max(math.ceil(_STEPS / per_epoch), least), most) * per_epoch


@torch.no_grad()
def predict(net: nn.Module, x: Tensor) -> Tensor:
    """Logits `[N, outputs]` in evaluation mode, in which the network stays."""
    net.eval()
    return torch.cat([net(part) for part in torch.split(x, _TOGETHER)])


def rank_of(held: Validation, logits: Tensor) -> tuple[float, float]:
    """Value of the goal and likelihood of the validation rows; minus infinity where they overflow.

    Decisions are judged as the recipe makes them, everything else by what it knows to undo.
    """
    if not logits.isfinite().all():
        return _NEVER
    judge, y, weight = held.judge, held.y.to(logits.device), held.weight
    undone = held.recipe.undo(logits, held.problem) if held.undoes else logits
    judged = logits - shift_of(held, logits) if judge.goal in DECIDED else undone
    likelihood = Judge("log_loss", held.problem)(undone, y, weight)
    value = likelihood if judge.goal == "log_loss" else judge(judged, y, weight)
    return (value, likelihood) if math.isfinite(likelihood) else _NEVER


def shift_of(held: Validation, logits: Tensor) -> Tensor:
    """`[outputs]`: what the decision takes off the logits, chosen for balanced accuracy.

    tau times the log prior; with one logit per label tau times its log-odds, for each label.
    """
    problem, weight = held.problem, held.weight
    logits = logits.detach().cpu().double()
    shift = torch.zeros(problem.outputs, dtype=torch.float64)
    if not held.recipe.adjust:
        return shift
    targets = held.y.cpu()
    if problem.kind == "multiclass":
        tau = _tau(logits, targets, problem.counts, weight)
        return tau * torch.tensor(problem.rates, dtype=torch.float64).log()
    for label, rate in enumerate(problem.rates):
        pair = F.pad(logits[:, label : label + 1], (1, 0))
        tau = _tau(pair, targets[:, label].long(), (1 - rate, rate), weight)
        shift[label] = tau * math.log(rate / (1 - rate))
    return shift


def _tau(logits: Tensor, y: Tensor, counts: Sequence[float], weight: Tensor | None) -> float:
    if weight is None:
        return choose_tau(logits, y, counts)
    mass = weight.cpu()

    def weighted(adjusted: Tensor, targets: Tensor) -> float:
        return float(metrics.balanced_accuracy(adjusted, targets, sample_weight=mass))

    return choose_tau(logits, y, counts, weighted)


def _network(task: Task, device: torch.device) -> nn.Module:
    inputs, outputs = task.rows.x.shape[1], task.problem.outputs
    net = task.make_net(inputs, outputs)
    if not isinstance(net, nn.Module):
        raise TypeError(
            f"module must return an nn.Module when it is called as module({inputs}, {outputs}); "
            f"got {type(net).__name__}."
        )
    linear = [layer for layer in net.modules() if isinstance(layer, nn.Linear)]
    if not linear:
        raise ValueError(
            "module must return a network with a linear layer at its end, for its bias starts from "
            "the class frequencies; it has none."
        )
    task.recipe.init_layer(linear[-1], task.problem)
    net = net.to(device)
    shape = list(predict(net, task.rows.x[:2]).shape)
    wanted = [min(2, len(task.rows.x)), outputs]
    if shape != wanted:
        raise ValueError(f"module must return logits of shape {wanted} for two rows; got {shape}.")
    return net.train()


def _loss_of(task: Task, steps: int) -> tuple[Callable[..., Tensor], bool]:
    """The loss, and whether it is passed weights."""
    if task.loss is None:
        made = task.recipe.build_loss(task.problem, steps=steps, budget=task.judge.budget)
        return made.to(task.rows.x.device), task.rows.weight is not None
    loss = copy.deepcopy(task.loss)
    if isinstance(loss, nn.Module):
        loss = loss.to(task.rows.x.device).train()
    accepts = any(
        name == "sample_weight" or one.kind is one.VAR_KEYWORD
        for name, one in parameters(loss).items()
    )
    if task.rows.weight is not None and not accepts:
        raise ValueError(
            "sample_weight must be left out: the loss takes no argument of that name. Pass a loss "
            "that does, such as those of this library."
        )

    def scalar(logits: Tensor, targets: Tensor, **weight: Tensor) -> Tensor:
        value = loss(logits, targets, **weight)
        if not isinstance(value, Tensor) or value.ndim or not value.requires_grad:
            raise ValueError(
                f"loss must return a scalar tensor with a gradient; got {value!r}. Use "
                "reduction='mean'."
            )
        return value

    for hook in ("on_train_epoch_start", "on_train_batch_start"):
        if hasattr(loss, hook):
            setattr(scalar, hook, getattr(loss, hook))
    return scalar, True


def _batches(task: Task, size: int, seed: int) -> Iterator[Tensor]:
    """Row numbers of one batch after another, in the recipe's order, without end."""
    y, rows, sampler = task.rows.y, len(task.rows.x), task.recipe.sampler
    labels = y.cpu().long().view(rows, -1)[:, 0]
    pieces = math.ceil(rows / size)
    if sampler == "stratified":
        stratified = StratifiedBatchSampler(labels, size, seed=seed, num_replicas=1, rank=0)
        while True:
            yield from torch.tensor(list(stratified))
    if sampler == "balanced":
        balanced = ClassBalancedSampler(labels, seed=seed, num_replicas=1, rank=0)
        while True:
            yield from torch.tensor(list(balanced)).tensor_split(pieces)
    generator = torch.Generator().manual_seed(seed)
    while True:
        yield from torch.randperm(rows, generator=generator).tensor_split(pieces)


def _running_mean(decay: float) -> Callable[..., None]:
    """How `AveragedModel` follows the weights: at first over the few steps that there are."""

    def follow(averages: Any, weights: Any, steps: Any) -> None:
        if not averages[0].is_floating_point():  # counters of batch norm
            torch._foreach_copy_(averages, weights)
            return
        one = int(steps)
        torch._foreach_lerp_(averages, weights, 1 - min(decay, one / (one + 9)))

    return follow
