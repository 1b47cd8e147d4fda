"""One row for every distribution: the table that the common tests run over."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch.distributions import Distribution

from fingerpost import distributions


@dataclass(frozen=True)
class Case:
    """A distribution with ordinary parameters, of batch shape (3,) after broadcasting.

    Args:
      name: The class in fingerpost.distributions.
      parameters: Values of the parameters that samples move with, by the constructor's names.
      fixed: What else the constructor is given.
    """

    name: str
    parameters: dict[str, Any]
    fixed: dict[str, Any] = field(default_factory=dict)

    @property
    def univariate(self) -> bool:
        """Whether samples are numbers."""
        return not self.make().event_shape

    def tensors(self, dtype: torch.dtype = torch.float64) -> dict[str, torch.Tensor]:
        """The parameters as leaves that ask for a gradient."""
        return {
            key: torch.tensor(value, dtype=dtype, requires_grad=True)
            for key, value in self.parameters.items()
        }

    def make(self, dtype: torch.dtype = torch.float64, **options: Any) -> Distribution:
        """The distribution, its parameters without a gradient."""
        return self.of({key: x.detach() for key, x in self.tensors(dtype).items()}, **options)

    def of(self, parameters: dict[str, torch.Tensor], **options: Any) -> Distribution:
        """The distribution at the given parameters."""
        return getattr(distributions, self.name)(**parameters, **self.fixed, **options)


CASES: list[Case] = [
    Case("Gamma", {"concentration": [2.2, 1.3, 60.0], "rate": [2.0, 1.0, 0.3]}),
    Case("NoncentralChi", {"loc": [0.7, 3.0, 40.0], "scale": [1.0, 0.5, 2.0]}, {"df": 3.5}),
    Case("Rice", {"loc": [0.7, 3.0, 40.0], "scale": [1.0, 0.5, 2.0]}),
    Case("FoldedNormal", {"loc": [0.7, 1.0, 40.0], "scale": [1.0, 0.5, 2.0]}),
    Case("RiceWoolfson", {"loc": [0.7, 1.0, 40.0], "scale": [1.0, 0.5, 2.0]}, {"centric": True}),
    Case("RiceWoolfson", {"loc": [0.7, 1.0, 40.0], "scale": [1.0, 0.5, 2.0]}, {"centric": False}),
    Case("VonMises", {"loc": [0.0, 0.1, 0.1], "concentration": [0.4, 30.0, 200.0]}),
    Case("StudentT", {"df": [7.0, 12.0, 1000.0], "loc": [0.5, -1.0, 3.0], "scale": [2.0, 1.0, 0.3]}),
    Case("TruncatedNormal", {"loc": [0.2, -3.0, 1.0], "scale": [1.0, 2.0, 0.5], "low": -1.0, "high": 2.5}),
    Case("Beta", {"concentration1": [2.2, 1.3, 60.0], "concentration0": [3.0, 2.0, 20.0]}),
    Case("Dirichlet", {"concentration": [[2.2, 1.3, 60.0], [0.5, 0.7, 2.0], [4.0, 5.0, 6.0]]}),
]
