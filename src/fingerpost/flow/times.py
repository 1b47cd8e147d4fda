"""How the times of a training batch are drawn."""

from __future__ import annotations

import abc
import math

import numpy as np
import scipy.special
import torch
from torch import Tensor

from fingerpost.errors import InvalidValueError, did_you_mean

SPREADS = ("independent", "stratified", "antithetic")


class AbstractTime(abc.ABC):
    """A distribution of times on (0, 1), stretched over a path's time range; drawn by its quantile function.

    Args:
      spread: How the uniform numbers behind the quantiles are spread over a batch. "independent"; "stratified": one in
        each of B equal intervals; "antithetic": u with 1 − u. All leave each time's distribution as it is, and the
        latter two lower the variance of the loss where it depends on t smoothly.
    """

    def __init__(self, spread: str = "independent") -> None:
        if spread not in SPREADS:
            raise InvalidValueError(
                f"spread is {spread!r}; expected one of {SPREADS}{did_you_mean(spread, SPREADS)}"
            )
        self.spread = spread

    @abc.abstractmethod
    def quantile(self, u: Tensor) -> Tensor:
        """The time below which a fraction u lies, for u in [0, 1); shapes (B,) → (B,)."""

    @abc.abstractmethod
    def density(self, t: Tensor) -> Tensor:
        """Density at t on (0, 1); 1/density as `weight` gives the loss of uniform times back."""

    def draw(
        self,
        n: int,
        time_range: tuple[float, float] = (0.0, 1.0),
        *,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """N times in `time_range`, shape (n,).

        >>> Uniform("stratified").draw(4, generator=torch.Generator().manual_seed(0)).mul(4).floor().sort().values
        tensor([0., 1., 2., 3.])
        """
        low, high = time_range
        t = self.quantile(self._uniforms(n, dtype, device, generator))
        return t if (low, high) == (0.0, 1.0) else torch.clamp(low + (high - low) * t, low, high)

    def _uniforms(
        self, n: int, dtype: torch.dtype, device: torch.device | str, generator: torch.Generator | None
    ) -> Tensor:
        if self.spread == "antithetic":
            half = torch.rand((n + 1) // 2, dtype=dtype, device=device, generator=generator)
            return torch.cat([half, 1 - half])[:n]
        u = torch.rand(n, dtype=dtype, device=device, generator=generator)
        if self.spread == "stratified":
            cell = torch.randperm(n, device=device, generator=generator)
            u = (cell + u) / n
        return u

    def __repr__(self) -> str:
        values = ", ".join(f"{key}={value!r}" for key, value in vars(self).items())
        return f"{type(self).__name__}({values})"


class Uniform(AbstractTime):
    """Uniform on (0, 1): the time of the flow-matching objective."""

    def quantile(self, u: Tensor) -> Tensor:
        return u

    def density(self, t: Tensor) -> Tensor:
        return torch.ones_like(t)


class LogitNormal(AbstractTime):
    """logit(t) ~ N(mean, std²): more of the middle (Esser et al. 2024, https://arxiv.org/abs/2403.03206, eq. 19).

    >>> LogitNormal().quantile(torch.tensor([0.5]))
    tensor([0.5000])
    """

    def __init__(self, mean: float = 0.0, std: float = 1.0, spread: str = "independent") -> None:
        super().__init__(spread)
        if not std > 0:
            raise InvalidValueError(f"std is {std}; expected a width above 0")
        self.mean, self.std = mean, std

    def quantile(self, u: Tensor) -> Tensor:
        return torch.sigmoid(self.mean + self.std * torch.special.ndtri(u))

    def density(self, t: Tensor) -> Tensor:
        z = (torch.logit(t) - self.mean) / self.std
        return torch.exp(-0.5 * z.square()) / (math.sqrt(2 * math.pi) * self.std * t * (1 - t))


class Beta(AbstractTime):
    """t ~ Beta(a, b): density ∝ t^(a−1) (1 − t)^(b−1); b < 1 puts more times near the data."""

    def __init__(self, a: float, b: float, spread: str = "independent") -> None:
        super().__init__(spread)
        if not (a > 0 and b > 0):
            raise InvalidValueError(f"a={a}, b={b}; expected both above 0")
        self.a, self.b = a, b

    def quantile(self, u: Tensor) -> Tensor:
        # scipy's inverse, since torch draws no Beta from a given generator
        t = scipy.special.betaincinv(self.a, self.b, u.detach().double().cpu().numpy())
        return torch.from_numpy(np.asarray(t)).to(u)

    def density(self, t: Tensor) -> Tensor:
        log = (
            (self.a - 1) * torch.log(t)
            + (self.b - 1) * torch.log1p(-t)
            - scipy.special.betaln(self.a, self.b)
        )
        return torch.exp(log)
