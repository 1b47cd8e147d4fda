"""How a gradient-descent relaxation fades with depth when it is stopped early.

On a chain whose Jacobians are near the identity the energy Σ ½‖h_l − F_l(h_{l−1})‖² + βL relaxes, per unit of top
gradient, as the linear recursion d ← d + α (K d + e_L), K the second difference with d_0 = 0 and a free top end. The
displacement credit then has profile d_l, the error credit d_l − d_{l−1}.
"""

from __future__ import annotations

import functools

import numpy as np

_STEP_SIZES = (0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5)
_FLOOR = 1e-14
_STEPS = (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 14, 16, 18, 20, 23, 26, 30, 35, 40, 50, 60, 75, 100, 150, 200, 300)


@functools.lru_cache(maxsize=32)
def _profiles(depth: int) -> tuple[np.ndarray, np.ndarray]:
    """All profiles of the grid: (displacement / its limit, error), each (settings, depth)."""
    displacement = []
    for size in _STEP_SIZES:
        d = np.zeros(depth + 1)
        for step in range(1, max(_STEPS) + 1):
            error = np.diff(d)
            pull = np.append(error[1:], 1.0) - error
            d[1:] += size * pull
            if step in _STEPS:
                displacement.append(d[1:].copy())
    table = np.array(displacement)
    return table / np.arange(1, depth + 1), np.diff(table, axis=1, prepend=0.0)


def relaxation_profiles(scales: np.ndarray, kind: str) -> tuple[np.ndarray, np.ndarray]:
    """Misfit of each early-stopped relaxation to the measured scales per layer.

    Args:
      scales: Measured scale per layer, 1 where converged, shape (L,).
      kind: ``"error"`` or ``"displacement"``, the credit whose profile is meant.

    Returns:
      Root-mean-square misfit of the logarithms, shape (settings,), and the profiles, (settings, L).
    """
    displacement, error = _profiles(len(scales))
    profiles = error if kind == "error" else displacement
    logs = np.log(np.maximum(profiles, _FLOOR)) - np.log(np.maximum(scales, _FLOOR))
    return np.sqrt(np.square(logs).mean(1)), profiles
