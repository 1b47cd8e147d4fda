"""A field that starts as the exact flow of Gaussian data."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fingerpost.errors import InvalidValueError
from fingerpost.flow.paths import AbstractSchedule, CondOT


class GaussianStart(nn.Module):
    r"""c(t) x + net(t, x): the exact marginal velocity for data N(0, I), and a network's correction to it.

    With x_t = α x₁ + σ x₀ and both ends N(0, I), E[ψ̇_t | x_t = x] = (α̇α + σ̇σ)/(α² + σ²) x = c(t) x. On whitened data
    a net that starts at zero starts as the Gaussian with the data's mean and covariance; stopping early or decaying
    the weights then means staying near it.

    Args:
      net: The correction, called as net(t, x) or net(t, x, condition).
      path: A path with schedules; pairs are taken as independent.

    >>> field = GaussianStart(lambda t, x: torch.zeros_like(x))
    >>> field(torch.tensor(0.0), torch.ones(1, 2))
    tensor([[-1., -1.]])
    """

    def __init__(self, net: nn.Module, path: AbstractSchedule | None = None) -> None:
        super().__init__()
        path = CondOT() if path is None else path
        if not isinstance(path, AbstractSchedule):
            raise InvalidValueError(f"path is {path!r}; expected one with schedules α and σ of t alone")
        self.net, self.path = net, path
        self.event_shape = getattr(net, "event_shape", None)
        self.null = getattr(net, "null", None)

    def forward(self, t: Tensor, x: Tensor, condition: Tensor | None = None) -> Tensor:
        """The velocity at (t, x); shapes as the net's."""
        alpha, sigma, alpha_dot, sigma_dot = self.path.schedule(t.double())
        rate = (alpha_dot * alpha + sigma_dot * sigma) / (alpha * alpha + sigma * sigma)
        rate = rate.to(x.dtype).reshape(-1, *(1 for _ in x.shape[1:]))
        rest = self.net(t, x) if condition is None else self.net(t, x, condition)
        return torch.addcmul(rest, rate, x)
