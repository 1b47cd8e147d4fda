"""The slope of the loss at the last state, by hand where the readout is linear and the loss is known."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from fingerpost.credit._energy import NudgedProblem
from fingerpost.credit._gates import hooked
from fingerpost.credit._losses import as_targets


class AbstractHead(ABC):
    """β ∂(Σ_n loss_n)/∂h_L for states that are stored shifted: k = h + shift."""

    @abstractmethod
    def look(self, shifted: Tensor) -> None:
        """Works out the slope at `shifted` (B, d), for the next calls of `slope` and `pull_`."""

    @abstractmethod
    def slope(self) -> Tensor:
        """The slope (B, d) where it was last looked at."""

    @abstractmethod
    def pull_(self, shifted: Tensor, step_size: float) -> None:
        """Moves a state by −step_size × slope."""

    @staticmethod
    def of(problem: NudgedProblem, shift: float = 0.0) -> AbstractHead:
        """By hand for a linear readout with a loss known by name, by automatic differentiation otherwise."""
        chain, y = problem.chain, problem.y
        indices = y.ndim == 1 and not y.is_floating_point()
        by_hand = chain.loss_name == "mse" or (chain.loss_name == "cross_entropy" and indices)
        if type(chain.readout) is nn.Linear and not hooked(chain.readout) and by_hand:
            return _LinearHead(problem, chain.readout, shift)
        return _AutogradHead(problem, shift)


class _AutogradHead(AbstractHead):
    def __init__(self, problem: NudgedProblem, shift: float) -> None:
        self.problem, self.shift = problem, shift
        self.found = torch.empty(0)

    def look(self, shifted: Tensor) -> None:
        leaf = (shifted - self.shift).requires_grad_()
        with torch.enable_grad():
            loss = self.problem.beta * self.problem.chain.losses(leaf, self.problem.y).sum()
        (self.found,) = torch.autograd.grad(loss, leaf, materialize_grads=True)

    def slope(self) -> Tensor:
        return self.found

    def pull_(self, shifted: Tensor, step_size: float) -> None:
        shifted.add_(self.found, alpha=-step_size)


class _LinearHead(AbstractHead):
    r"""β (p − y) W, with p = softmax(W h + b) for the cross-entropy and W h + b for the squared error."""

    def __init__(self, problem: NudgedProblem, readout: nn.Linear, shift: float) -> None:
        weight = readout.weight.detach()
        self.softmax = problem.chain.loss_name == "cross_entropy"
        self.weight, self.beta = weight, problem.beta
        self.bias = weight.sum(1).mul_(-shift)
        if readout.bias is not None:
            self.bias += readout.bias
        self.across = weight.t()
        self.outputs = weight.new_empty(len(problem.free[-1]), len(weight))
        self.targets = as_targets(problem.y, self.outputs)
        self.excess = torch.empty_like(self.outputs)

    def look(self, shifted: Tensor) -> None:
        torch.addmm(self.bias, shifted, self.across, out=self.outputs)
        if self.softmax:
            torch.softmax(self.outputs, 1, out=self.excess).sub_(self.targets)
        else:
            torch.sub(self.outputs, self.targets, out=self.excess)

    def slope(self) -> Tensor:
        return (self.excess @ self.weight).mul_(self.beta)

    def pull_(self, shifted: Tensor, step_size: float) -> None:
        shifted.addmm_(self.excess, self.weight, alpha=-step_size * self.beta)
