"""Which frequencies a learning signal can teach: tangent kernels, Fourier features, linearised training."""

from __future__ import annotations

from fingerpost.spectral.dynamics import Modes, max_learning_rate, modes, predict
from fingerpost.spectral.nets import CoordinateMLP, NTKLinear

__all__ = [
    "CoordinateMLP",
    "Modes",
    "NTKLinear",
    "max_learning_rate",
    "modes",
    "predict",
]
