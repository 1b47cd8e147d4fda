"""Training as the tangent kernel predicts it: error modes, outputs at any time, the stable learning rate."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor

from fingerpost.errors import InvalidValueError, ShapeError
from fingerpost.spectral._decay import (
    TIMES,
    checked_times,
    finished,
    learned,
    learned_over_value,
    log_decay,
    log_factor,
    step_size,
    warn_or_refuse,
)
from fingerpost.spectral._kernel import TangentKernel, known


@dataclass(frozen=True)
class Modes:
    r"""The error of linearised training, one decaying component a mode: Qᵀ(y − f_t) = decay(t) · Qᵀ(y − f₀).

    Attributes:
      values: Eigenvalues λ of the kernel, largest first, shape (k,), at least 0; k = n, or n·o for a full kernel.
      vectors: Eigenvectors Q as columns, shape (n, k), or (n, o, k) for a full kernel.
      coefficients: Qᵀ(y − f₀), shape (k,), or (k, o) if a shared kernel has several outputs; None without labels.
      rates: What each mode's log error loses in a unit of time, shape (k,): −log |1 − ηλ| for steps, ηλ for the flow;
        negative where the linear theory explodes.
      step: The factor η before K, after the loss has taken its share of the learning rate.
      time: ``"steps"`` or ``"flow"``.
    """

    values: Tensor
    vectors: Tensor
    coefficients: Tensor | None
    rates: Tensor
    step: float
    time: str

    def decay(self, t: float | Tensor) -> Tensor:
        """Factor of each mode's error at the times t: (1 − ηλ)ᵗ or exp(−ηλt), shape (*t.shape, k)."""
        times = checked_times(t, self.time).to(self.values.device)
        exponent, negative = log_decay(self.values, times, self.step, self.time)
        return torch.where(negative, -torch.exp(exponent), torch.exp(exponent))


def modes(
    K: Tensor,
    y: Tensor | None = None,
    learning_rate: float = 1.0,
    f0: Tensor | None = None,
    *,
    loss: str = "half_sum",
    time: str = "steps",
) -> Modes:
    r"""The eigenmodes of training: which parts of the error go at what rate.

    K = QΛQᵀ. In the kernel's eigenbasis the errors of linearised training decay apart from each other,
    Qᵀ(f_t − y) = (1 − ηΛ)ᵗ Qᵀ(f₀ − y) for t steps of gradient descent, exp(−ηΛt) for gradient flow: eq. 4 of Lee et
    al. 2019 (https://arxiv.org/abs/1902.06720) and eq. 4 of Tancik et al. 2020 (https://arxiv.org/abs/2006.10739),
    which has f₀ = 0.

    Args:
      K: Tangent kernel of the training points: (n, n), shared by all outputs, or (n, n, o, o), full.
      y: Labels, (n,) or (n, o).
      learning_rate: η of gradient descent, per step.
      f0: Outputs at initialization, shaped like y; zero if None.
      loss: ``"half_sum"``, ½ Σ (f − y)²; ``"half_mean"``, that over n; ``"mse"``, torch's mse_loss, Σ (f − y)² / (n o).
      time: ``"steps"`` of gradient descent, or ``"flow"``, its limit of small steps with t = number of steps.

    Returns:
      The modes, float64, largest eigenvalue first.

    Raises:
      ShapeError: If K is not square or labels do not fit it.
      InvalidValueError: If K is not symmetric or has a negative eigenvalue, or a value is NaN or infinite.

    >>> found = modes(torch.tensor([[2.0, 1.0], [1.0, 2.0]]), torch.tensor([1.0, 1.0]), learning_rate=0.1)
    >>> found.values.tolist(), [round(float(c) ** 2, 6) for c in found.coefficients]
    ([3.0, 1.0], [2.0, 0.0])
    >>> round(float(found.decay(2)[0]), 6)  # (1 − 0.3)²
    0.49
    """
    known(time, "time", TIMES)
    kernel = TangentKernel(K)
    if K.ndim == 3:
        raise ShapeError(
            f"K has shape {tuple(K.shape)}, one kernel for each output; ask for modes(K[:, :, a], y[:, a])"
        )
    outputs, residual = kernel.outputs or 1, None
    if y is not None:
        labels = kernel.labels(y, "y")
        start = torch.zeros_like(labels) if f0 is None else kernel.labels(f0, "f0", like=labels)
        outputs, residual = labels.shape[1], kernel.columns(labels - start, 0)
    step = step_size(learning_rate, loss, kernel.points, outputs)
    values, vectors = kernel.blocks[0].eigen()
    coefficients = None if residual is None else vectors.T @ residual
    if coefficients is not None and (K.ndim == 4 or cast(Tensor, y).ndim == 1):
        coefficients = coefficients[:, 0]
    if K.ndim == 4:
        vectors = vectors.reshape(kernel.points, outputs, -1)
    rates = step * values if time == "flow" else -log_factor(step * values)
    return Modes(values, vectors, coefficients, rates, step, time)


def max_learning_rate(K: Tensor, loss: str = "half_sum", *, outputs: int = 1) -> float:
    r"""The learning rate 2/λ_max, in the loss's own convention, above which linearised gradient descent explodes.

    Wide networks need not: they may find parameters with a smaller kernel (Lewkowycz et al. 2020,
    https://arxiv.org/abs/2003.02218). At half of it the fastest mode is learned in one step.

    Args:
      K: Tangent kernel, (n, n), (n, n, o) or (n, n, o, o).
      loss: As for `predict`.
      outputs: Number of outputs that share an (n, n) kernel; ``"mse"`` divides by it.

    Returns:
      The limit; infinite if K is 0.

    >>> max_learning_rate(torch.tensor([[2.0, 1.0], [1.0, 2.0]]), "half_mean")  # n · 2/3
    1.3333333333333333
    """
    kernel = TangentKernel(K)
    if outputs < 1 or (kernel.outputs and outputs not in (1, kernel.outputs)):
        raise InvalidValueError(f"outputs is {outputs}, for K of shape {tuple(K.shape)}")
    unit = step_size(1.0, loss, kernel.points, kernel.outputs or outputs)
    largest = max(float(torch.linalg.eigvalsh(block.matrix)[-1]) for block in kernel.blocks)
    return 2 / (unit * largest) if largest > 0 else math.inf


def predict(
    K: Tensor,
    y: Tensor,
    t: float | Tensor,
    learning_rate: float,
    f0: Tensor | None = None,
    *,
    K_test: Tensor | None = None,
    f0_test: Tensor | None = None,
    loss: str = "half_sum",
    time: str = "steps",
) -> Tensor:
    r"""Outputs of the linearised network after training for t: f₀ + K_test φ(K) (y − f₀).

    φ(λ) = (1 − (1 − ηλ)ᵗ)/λ for t steps of gradient descent, (1 − exp(−ηλt))/λ for gradient flow, and ηt at λ = 0: eqs. 10
    and 11 of Lee et al. 2019 (https://arxiv.org/abs/1902.06720). Tancik et al. 2020, eq. 3
    (https://arxiv.org/abs/2006.10739), has f₀ = 0. K is never inverted: φ is taken on its eigenvalues by expm1 and
    log1p. The two times part above η λ_max ≈ 0.5, and steps explode above η λ_max = 2. Full-batch gradient descent
    only: no momentum, no Adam.

    Args:
      K: Tangent kernel of the training points: (n, n), shared by all outputs; (n, n, o), one for each output; or
        (n, n, o, o), full, as `empirical_ntk` gives them by ``reduce``.
      y: Labels, (n,) or (n, o).
      t: Number of steps made, whole for ``time="steps"``; a tensor for many times at once; infinity for the limit,
        which is kernel regression with K's pseudo-inverse.
      learning_rate: η of gradient descent, per step.
      f0: Outputs at initialization on the training points, shaped like y; zero if None.
      K_test: Kernel between test and training points, (m, n) and K's further axes; None predicts training points.
      f0_test: Outputs at initialization on the test points, (m,) or (m, o); needed where f0 is given.
      loss: ``"half_sum"``, ½ Σ (f − y)², so that η stands before K; ``"half_mean"``, that over n: η/n; ``"mse"``,
        torch.nn.functional.mse_loss, which also divides by the outputs: 2η/(n o).
      time: ``"steps"`` of gradient descent, or ``"flow"``, its limit of small steps with t = number of steps.

    Returns:
      Outputs, shape (*t.shape, m) or (*t.shape, m, o), n for m without K_test. Computed in float64 and returned in y's
      dtype; gradients do not flow.

    Raises:
      ShapeError: If a shape does not fit.
      InvalidTypeError: If an argument is no floating tensor.
      InvalidValueError: If K is not symmetric or has a negative eigenvalue, a value is NaN, t is negative or not whole, f0
        comes without f0_test, or t is infinite above the stable learning rate.
      NumericalError: If the linear theory overflowed.

    Warns:
      UserWarning: If the learning rate is above the stable limit of gradient descent, with the limit.

    >>> K = torch.tensor([[2.0, 1.0], [1.0, 2.0]], dtype=torch.float64)
    >>> y = torch.tensor([1.0, 1.0], dtype=torch.float64)
    >>> predict(K, y, 2, learning_rate=0.1)  # 1 − (1 − 0.3)²
    tensor([0.5100, 0.5100], dtype=torch.float64)
    >>> predict(K, y, torch.tensor([0.0, torch.inf]), 0.1, K_test=torch.tensor([[1.0, 1.0]], dtype=torch.float64))
    tensor([[0.0000],
            [0.6667]], dtype=torch.float64)
    """
    known(time, "time", TIMES)
    if f0 is not None and K_test is not None and f0_test is None:
        raise InvalidValueError(
            "f0 is given without f0_test; test outputs start from the network's own: give both"
        )
    kernel = TangentKernel(K)
    labels = kernel.labels(y, "y")
    start = torch.zeros_like(labels) if f0 is None else kernel.labels(f0, "f0", like=labels)
    test = None if K_test is None else kernel.test_blocks(K_test)
    begin = start if test is None else kernel.test_start(f0_test, len(cast(Tensor, K_test)), labels)
    step = step_size(learning_rate, loss, kernel.points, labels.shape[1])
    times = checked_times(t, time).to(labels.device)
    eigen = [block.eigen() for block in kernel.blocks]
    if time == "steps":
        warn_or_refuse(step * max(float(values[0]) for values, _ in eigen), learning_rate, times)
    parts = []
    for k, (values, vectors) in enumerate(eigen):
        coefficients = vectors.T @ kernel.columns(labels - start, k)
        if test is None:
            factors, basis = learned(values, times, step, time), vectors
        else:
            factors, basis = learned_over_value(values, times, step, time), test[k] @ vectors
        parts.append(basis @ (factors[..., None] * coefficients))
    change = torch.cat(parts, -1).reshape(*times.shape, *begin.shape)
    return finished(begin + change, times, y)
