"""What a rule is: from a layer's input and the cotangents of its output to its parameters' gradients, in factors."""

from __future__ import annotations

import abc
from collections.abc import Mapping

from torch import Tensor, nn

from fingerpost.spectral._rules.terms import AbstractTerm


class AbstractRule(abc.ABC):
    """Exact per-sample gradients of one kind of layer.

    A layer may see its samples along dimension 0, alone or as (n · k, …) with a sample's k rows together, or along
    dimension 1. Which of them is found by trial against autograd.
    """

    batch_dimensions: tuple[int, ...] = (0, 1)

    def takes(self, module: nn.Module) -> bool:
        """Whether this layer, as it is set, is one that the rule is exact for."""
        return True

    @abc.abstractmethod
    def terms(
        self, module: nn.Module, inputs: Tensor, cotangents: Tensor, n: int
    ) -> Mapping[str, AbstractTerm]:
        """The share of each parameter by its name in the module.

        Args:
          module: The layer.
          inputs: What it was called with, shape (n · k, …), one sample's rows together.
          cotangents: ∂f_o/∂output, shape (o, n · k, …).
          n: How many samples.
        """


def samples_first(tensor: Tensor, batch_dimension: int) -> Tensor:
    """With the samples' dimension in front."""
    return tensor if batch_dimension == 0 else tensor.movedim(batch_dimension, 0)
