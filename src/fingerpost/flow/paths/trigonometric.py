"""The path along a quarter circle."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from fingerpost.flow.paths.base import AbstractSchedule


class Trigonometric(AbstractSchedule):
    r"""α_t = sin(πt/2), σ_t = cos(πt/2): variance-preserving at constant angular speed.

    For data of unit variance every marginal has unit variance (Albergo and Vanden-Eijnden 2022,
    https://arxiv.org/abs/2209.15571). The velocity u_t(x | x₁) is singular at t = 1.
    """

    def schedule(self, t: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        half = math.pi / 2
        # cos(πt/2) as sin(π(1 − t)/2), which keeps its digits near t = 1 and is exactly 0 there
        sine, cosine = torch.sin(half * t), torch.sin(half * (1 - t))
        return sine, cosine, half * cosine, -half * sine
