"""From the probabilities that a loss or a sampler led to, back to the true ones."""

import math
from typing import Any, Literal, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor

from imbalanced_losses._checks import number, one_of
from imbalanced_losses.metrics._cells import ArrayLike, as_tensor, where_float64_is

Activation: TypeAlias = Literal["softmax", "sigmoid"]


@torch.no_grad()
def undo_class_weights(
    logits: ArrayLike, weights: ArrayLike, *, activation: Activation = "softmax"
) -> Tensor:
    """Logits as without class weights: z_c - log w_c.

    A weighted cross-entropy is least at q_c proportional to w_c p_c, and BCE with `pos_weight` w at
    q / (1 - q) = w p / (1 - p): Elkan, "The Foundations of Cost-Sensitive Learning", IJCAI 2001,
    https://cseweb.ucsd.edu/~elkan/rescale.pdf.

    Args:
        logits: Of the trained model, floating.
        weights: `[C]`: the class weights of the loss; with `"sigmoid"` its `pos_weight`, one number
            or one per label. All above 0.
        activation: See the top of `imbalanced_losses.calibration`.

    Returns:
        Logits of the same shape.

    Raises:
        TypeError: For a wrong dtype.
        ValueError: For a weight that is not above 0, or shapes that do not fit.

    Examples:
        >>> import torch
        >>> from imbalanced_losses.calibration import undo_class_weights
        >>> trained = torch.tensor([[0.2, 0.8]]).log()
        >>> undo_class_weights(trained, [1.0, 4.0]).softmax(1)
        tensor([[0.5000, 0.5000]])
    """
    given, z = _logits(logits, activation)
    shift = _per_class("weights", weights, z, activation, above=0).log()
    return _back(z - shift, given)


@torch.no_grad()
def undo_resampling(
    logits: ArrayLike,
    trained: ArrayLike,
    population: ArrayLike,
    *,
    activation: Activation = "softmax",
) -> Tensor:
    """Logits for the population, of a model trained on other class frequencies.

    The softmax logits become z_c + log(population_c / trained_c), and a sigmoid's the log-odds plus
    the difference of the log-odds of the two rates: Saerens, Latinne and Decaestecker, "Adjusting
    the Outputs of a Classifier to New a Priori Probabilities", Neural Computation 2002,
    https://doi.org/10.1162/089976602753284446. It holds where rows were drawn by class only, as
    balanced samplers and the subsampling of negatives do.

    Args:
        logits: Of the trained model, floating.
        trained: `[C]`: counts or shares of the classes as the model saw them; with `"sigmoid"` the
            rate of positives, one number or one per label. All above 0, and rates below 1.
        population: The same where the probabilities are to hold.
        activation: See the top of `imbalanced_losses.calibration`.

    Returns:
        Logits of the same shape.

    Raises:
        TypeError: For a wrong dtype.
        ValueError: For frequencies out of range, or shapes that do not fit.

    Examples:
        >>> import torch
        >>> from imbalanced_losses.calibration import undo_resampling
        >>> trained = torch.tensor([0.5]).logit()
        >>> undo_resampling(trained, 0.5, 0.01, activation="sigmoid").sigmoid()
        tensor([0.0100])
    """
    given, z = _logits(logits, activation)
    below = 1.0 if activation == "sigmoid" else math.inf
    then = _per_class("trained", trained, z, activation, above=0, below=below)
    now = _per_class("population", population, z, activation, above=0, below=below)
    if activation == "sigmoid":
        return _back(z + now.logit() - then.logit(), given)
    # A common factor changes no softmax, but shares keep the logits near where they were.
    return _back(z + (now / now.sum()).log() - (then / then.sum()).log(), given)


@torch.no_grad()
def undo_logit_adjustment(logits: ArrayLike, class_counts: ArrayLike, tau: float = 1.0) -> Tensor:
    """Logits of the true probabilities, from adjusted ones: z_c + tau log pi_c.

    Cross-entropy of z + tau log pi is least where its softmax is p, so z itself is what decides for
    classes that count alike; a plainly trained model whose logits were shifted by -tau log pi after
    training is brought back by the same sum. Menon et al., "Long-Tail Learning via Logit
    Adjustment", ICLR 2021, https://arxiv.org/abs/2007.07314.

    Args:
        logits: `[N, C]` or `[N, C, d1, ...]`, of the trained model (without the loss's own shift)
            or adjusted after training; floating.
        class_counts: `[C]`: rows of each class in the training data, all above 0.
        tau: Of the adjustment.

    Returns:
        Logits of the same shape.

    Raises:
        TypeError: For a wrong dtype.
        ValueError: For counts that are not above 0, or shapes that do not fit.

    Examples:
        >>> import torch
        >>> from imbalanced_losses.calibration import undo_logit_adjustment
        >>> undo_logit_adjustment(torch.zeros(1, 2), [99, 1]).softmax(1)
        tensor([[0.9900, 0.0100]])
    """
    tau = number("tau", tau)
    given, z = _logits(logits, "softmax")
    counts = _per_class("class_counts", class_counts, z, "softmax", above=0)
    return _back(z + tau * (counts / counts.sum()).log(), given)


@torch.no_grad()
def undo_focal(
    logits: ArrayLike,
    gamma: float = 2.0,
    alpha: ArrayLike | None = None,
    *,
    activation: Activation = "softmax",
) -> Tensor:
    """Logits of the true probabilities, from a model trained with a focal loss.

    The softmax focal loss is least at a q with

        p_c proportional to q_c / (alpha_c phi(q_c)),
        phi(v) = (1 - v)^gamma - gamma (1 - v)^(gamma - 1) v log v,

    which for gamma > 0 is less sure than p: Charoenphakdee et al., "On Focal Loss for
    Class-Posterior Probability Estimation: A Theoretical Perspective", CVPR 2021,
    https://arxiv.org/abs/2011.09172. The weights alpha enter as class weights do. The sigmoid focal
    loss is that of two classes with logits z and 0, weights alpha and 1 - alpha.

    Args:
        logits: Of the trained model, floating.
        gamma: Of the loss, at least 0.
        alpha: Of the loss. `"softmax"`: `[C]`, above 0; `"sigmoid"`: the weight of positives,
            within (0, 1), one number or one per label, or -1 for none. None: no weights.
        activation: See the top of `imbalanced_losses.calibration`.

    Returns:
        Logits of the same shape; for `"softmax"`, up to a common shift of each row.

    Raises:
        TypeError: For a wrong dtype.
        ValueError: For a setting out of range, or shapes that do not fit.

    Examples:
        >>> import torch
        >>> from imbalanced_losses.calibration import undo_focal
        >>> undo_focal(torch.tensor([1.0]), gamma=2.0, activation="sigmoid").sigmoid()
        tensor([0.9359])
    """
    gamma = number("gamma", gamma, at_least=0)
    given, z = _logits(logits, activation)
    weight = None
    if alpha is not None and not (activation == "sigmoid" and _is_off(alpha)):
        below = 1.0 if activation == "sigmoid" else math.inf
        weight = _per_class("alpha", alpha, z, activation, above=0, below=below)
    if activation == "sigmoid":
        log_q, log_rest = F.logsigmoid(torch.stack((z, -z)))
        unfocused = _log_unfocused(log_q, log_rest, gamma) - _log_unfocused(log_rest, log_q, gamma)
        return _back(unfocused if weight is None else unfocused - weight.logit(), given)
    log_q = z.log_softmax(1)
    unfocused = _log_unfocused(log_q, _log_others(log_q), gamma)
    return _back(unfocused if weight is None else unfocused - weight.log(), given)


def _logits(logits: ArrayLike, activation: str) -> tuple[Tensor, Tensor]:
    """Logits as they came, and in float64."""
    one_of("activation", activation, ("softmax", "sigmoid"))
    given = as_tensor("logits", logits)
    if not given.is_floating_point():
        raise TypeError(f"logits must be of a floating dtype; got {given.dtype}.")
    if activation == "softmax" and (given.dim() < 2 or given.shape[1] < 2):
        raise ValueError(
            "logits must have shape [N, C] or [N, C, d1, ...] with C of at least 2 for "
            f'activation="softmax"; got {list(given.shape)}. Use activation="sigmoid" for binary '
            "and multi-label logits."
        )
    return given, where_float64_is(given).double()


def _back(logits: Tensor, given: Tensor) -> Tensor:
    return logits.to(torch.promote_types(given.dtype, torch.float32)).to(given.device)


def _per_class(
    name: str,
    value: ArrayLike,
    logits: Tensor,
    activation: str,
    *,
    above: float,
    below: float = math.inf,
) -> Tensor:
    """One number per class (or label, or for all labels) in a shape that fits the logits."""
    numbers = as_tensor(name, value, like=logits).double()
    single = activation == "sigmoid" and numbers.numel() == 1
    classes = logits.shape[1] if logits.dim() > 1 else 1
    if not single and list(numbers.shape) != [classes]:
        alone = "one number or " if activation == "sigmoid" else ""
        raise ValueError(
            f"{name} must be {alone}one number per class, [{classes}], for logits "
            f"{list(logits.shape)}; got shape {list(numbers.shape)}."
        )
    wrong = ~((numbers > above) & (numbers < below))
    if wrong.any():
        limit = f" and below {below:g}" if below < math.inf else " and finite"
        raise ValueError(
            f"{name} must be above {above:g}{limit}; got {numbers[wrong].flatten()[0].item():g}."
        )
    return numbers.reshape(()) if single else numbers.view(-1, *[1] * (logits.dim() - 2))


def _is_off(alpha: Any) -> bool:
    """Whether this is the -1 by which focal losses are told not to weigh."""
    numbers = as_tensor("alpha", alpha)
    return numbers.numel() == 1 and numbers.item() == -1


def _log_unfocused(log_q: Tensor, log_rest: Tensor, gamma: float) -> Tensor:
    """log(q / phi(q)) from log q and log(1 - q), finite for every finite logit.

    phi(q) = (1 - q)^gamma (1 + gamma r) with r = -q log(q) / (1 - q), which lies in [0, 1].
    """
    if gamma == 0:
        return log_q
    # Next to 1 only the rest knows the digits, and at 1 a softmax of infinities would be NaN.
    log_rest = log_rest.clamp(min=-1e6)
    log_q = torch.where(log_rest < -0.7, torch.log1p(-log_rest.exp()), log_q)
    ratio = (log_q + (-log_q).log() - log_rest).exp().clamp(max=1).masked_fill(log_q == 0, 1.0)
    return log_q - gamma * log_rest - torch.log1p(gamma * ratio.nan_to_num(nan=0.0))


def _log_others(log_q: Tensor) -> Tensor:
    """log(1 - q_c), the logarithm of the others' sum, exact also where q_c is next to 1."""
    top = log_q.argmax(1, keepdim=True)
    is_top = torch.zeros_like(log_q, dtype=torch.bool).scatter(1, top, value=True)
    others = log_q.masked_fill(is_top, -math.inf).logsumexp(1, keepdim=True)
    # All but the largest are at most 1/2.
    return torch.where(is_top, others, torch.log1p(-log_q.exp().masked_fill(is_top, 0.0)))
