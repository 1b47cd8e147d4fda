"""Which frequencies a learning signal can teach: tangent kernels, Fourier features, linearised training."""

from __future__ import annotations

from typing import Any

__all__: list[Any] = []
