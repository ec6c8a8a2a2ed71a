"""What `compute_loss_func` makes of each kind of loss and labels: items, shares, refusals."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from eight_lines import PlainAUCLoss
from imbalanced_losses import (
    LossWarmupWrapper,
    RecallAtQuantileLoss,
    SigmoidFocalLoss,
    SmoothAPLoss,
    SoftmaxFocalLoss,
)

pytest.importorskip("transformers")

from imbalanced_losses.integrations.transformers import LossScheduleCallback, compute_loss_func

CLASSES = 3


def unknown() -> nn.Module:
    """A ranking loss that this package does not know."""
    return PlainAUCLoss(CLASSES, queue_size=0, temperature=0.5)


class Sum(nn.Module):
    """A ranking loss inside a user's own module."""

    def __init__(self, ranking: nn.Module, pointwise: nn.Module) -> None:
        super().__init__()
        self.ranking, self.pointwise = ranking, pointwise

    def forward(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return self.ranking(logits, targets) + self.pointwise(logits, targets)


def test_a_loss_that_holds_a_ranking_loss_is_one_whatever_its_class() -> None:
    torch.manual_seed(0)
    logits, labels = torch.randn(20, CLASSES), torch.arange(20) % CLASSES
    for loss_fn in (
        unknown(),
        Sum(unknown(), nn.CrossEntropyLoss()),
    ):
        share = compute_loss_func(loss_fn)((logits,), labels, num_items_in_batch=80)
        torch.testing.assert_close(share, loss_fn(logits, labels) / 4)
        assert LossScheduleCallback(loss_fn).loss is loss_fn
    vector = compute_loss_func(Sum(unknown(), nn.CrossEntropyLoss(reduction="none")))
    with pytest.raises(ValueError, match=r"must return a scalar; Sum returned shape \[20\]"):
        vector((logits,), labels)


def test_multi_label_binary_and_half_precision() -> None:
    torch.manual_seed(0)
    compute = compute_loss_func(SigmoidFocalLoss(alpha=None, gamma=0.0))
    logits, labels = torch.randn(6, 4), torch.rand(6, 4).round()
    expected = F.binary_cross_entropy_with_logits(logits, labels)
    torch.testing.assert_close(compute({"logits": logits}, labels), expected)
    torch.testing.assert_close(compute((logits,), labels, num_items_in_batch=48), expected / 2)
    torch.testing.assert_close(
        compute((logits[:, :1],), labels[:, 0]),
        F.binary_cross_entropy_with_logits(logits[:, 0], labels[:, 0]),
    )
    total = compute_loss_func(SigmoidFocalLoss(alpha=None, gamma=0.0, reduction="sum"))
    torch.testing.assert_close(total((logits,), labels, num_items_in_batch=48), 24 * expected)
    many, classes = torch.randn(40_000, 3, dtype=torch.bfloat16), torch.arange(40_000) % 3
    torch.testing.assert_close(
        compute_loss_func(nn.CrossEntropyLoss())((many,), classes),
        F.cross_entropy(many.float(), classes),
    )
    nothing = compute((logits[:0],), labels[:0], num_items_in_batch=0)
    assert nothing == 0


def test_an_item_is_a_row_of_probabilities_or_a_cell() -> None:
    torch.manual_seed(0)
    logits = torch.randn(2, 5, 4, requires_grad=True)
    shares = torch.rand(2, 5, 4).softmax(-1)
    shares[1, 3:] = -100
    rows = shares[..., 0] != -100
    for loss_fn in (SoftmaxFocalLoss(alpha=[1.0, 2.0, 3.0, 4.0]), nn.CrossEntropyLoss()):
        compute = compute_loss_func(loss_fn)
        expected = loss_fn(logits[rows], shares[rows])
        torch.testing.assert_close(compute((logits,), shares), expected)
        # The Trainer counts cells: 8 rows of 4 here, 16 rows in the step.
        half = compute((logits,), shares, num_items_in_batch=torch.tensor(64))
        torch.testing.assert_close(half, expected / 2)
        (gradient,) = torch.autograd.grad(half, logits)
        assert not gradient[~rows].any()
        broken = shares.clone()
        broken[0, 0, 1] = -100
        with pytest.raises(ValueError, match="-100 in all 4 cells of a row, or in none; got 1"):
            compute((logits,), broken)

    cells = torch.rand(2, 5, 4).round().masked_fill(torch.rand(2, 5, 4) < 0.3, -100)
    counted = cells != -100
    expected = F.binary_cross_entropy_with_logits(logits[counted], cells[counted])
    for loss_fn in (
        nn.BCEWithLogitsLoss(),
        SigmoidFocalLoss(None, gamma=0.0),
        SigmoidFocalLoss(None, gamma=0.0, ignore_index=-100),
    ):
        compute = compute_loss_func(loss_fn)
        torch.testing.assert_close(compute((logits,), cells), expected)
        half = compute((logits,), cells, num_items_in_batch=2 * counted.sum())
        torch.testing.assert_close(half, expected / 2)
        (gradient,) = torch.autograd.grad(half, logits)
        assert not gradient[~counted].any()
    nothing = compute((logits,), torch.full_like(cells, -100))
    assert nothing == 0
    assert nothing.requires_grad


# Dynamo itself looks at autograd functions in a way that torch deprecates.
@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
def test_a_compiled_loss_is_known_for_what_it_is() -> None:
    loss_fn = SmoothAPLoss(CLASSES, queue_size=0, temperature=0.5)
    compute = compute_loss_func(torch.compile(loss_fn, backend="eager"))
    logits, labels = torch.randn(20, CLASSES), torch.arange(20) % CLASSES
    whole = loss_fn(logits, labels)
    torch.testing.assert_close(compute((logits,), labels, num_items_in_batch=40), whole / 2)
    assert LossScheduleCallback(torch.compile(loss_fn, backend="eager")).loss is loss_fn


@pytest.mark.parametrize(
    ("loss", "error", "message"),
    [
        (F.cross_entropy, TypeError, "must be an nn.Module"),
        (nn.Linear(2, 2), TypeError, "holds a ranking loss; got a Linear"),
        (nn.CrossEntropyLoss(reduction="none"), ValueError, "got 'none'"),
        (SoftmaxFocalLoss(reduction="mean_positive"), ValueError, "got 'mean_positive'"),
        (SmoothAPLoss(2, reduction="none"), ValueError, "got 'none'"),
        (nn.CrossEntropyLoss(ignore_index=0), ValueError, "ignore_index=0"),
        (RecallAtQuantileLoss(2, ignore_index=-1), ValueError, "ignore_index=-1"),
        (
            LossWarmupWrapper(nn.CrossEntropyLoss(ignore_index=-1), SmoothAPLoss(2)),
            ValueError,
            "ignore_index=-1",
        ),
        (Sum(SmoothAPLoss(2), nn.CrossEntropyLoss(ignore_index=7)), ValueError, "ignore_index=7"),
    ],
)
def test_losses_that_would_be_scaled_wrongly_are_refused(
    loss: object, error: type, message: str
) -> None:
    with pytest.raises(error, match=message):
        compute_loss_func(loss)


def test_other_mistakes() -> None:
    with pytest.raises(TypeError, match="has no state"):
        LossScheduleCallback(nn.CrossEntropyLoss())
    with pytest.raises(ValueError, match=r"got \[3\] beside logits \[4, 2\]"):
        compute_loss_func(nn.CrossEntropyLoss())((torch.zeros(4, 2),), torch.zeros(3).long())
    for loss_fn in (nn.CrossEntropyLoss(), SmoothAPLoss(2)):
        compute = compute_loss_func(loss_fn)
        with pytest.raises(ValueError, match=r"labels must be a tensor; got None.*key 'labels'"):
            compute((torch.zeros(4, 2),), None)
        with pytest.raises(TypeError, match="labels must be a tensor; got list"):
            compute((torch.zeros(4, 2),), [0, 1, 0, 1])

    class Stubborn(nn.CrossEntropyLoss):
        """Reads its reduction once."""

        def forward(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
            return F.cross_entropy(logits, labels)

    with pytest.raises(ValueError, match=r"one term per row.*Stubborn returned shape \[\]"):
        compute_loss_func(Stubborn())((torch.zeros(4, 2),), torch.zeros(4).long())
