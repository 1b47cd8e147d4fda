"""Tomography with the tangent kernel: σ by the evidence of readings, before any training, and the kernel's own picture."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from fingerpost._lazy import lazy_import
from fingerpost.experiments._ct_classical import projector
from fingerpost.experiments._ct_phantom import Scan, field_of_view

np = lazy_import("numpy")
linalg = lazy_import("scipy.linalg")
spectral = lazy_import("fingerpost.spectral")

RIDGES = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5)


def kernel_of_readings(encoding: Any, data: Scan, size: int, depth: int) -> tuple[Any, Any]:
    """The kernel between readings, A K Aᵀ (n, n), and from them to pixels, K Aᵀ (size², n).

    Readings are linear in the picture, so that their tangent kernel is that of the pixels seen through the projector A.
    K is a stationary kernel on a grid: A's rows are smoothed by FFT, and K is never formed.
    """
    matrix = projector(data, size, 2 * size)
    kernel = spectral.StationaryNTK.on_grid(encoding, (size, size), depth=depth)
    smooth = _products(kernel, matrix, size)
    return np.asarray(matrix @ smooth), smooth


def _products(kernel: Any, matrix: Any, size: int) -> Any:
    import torch

    rows = torch.from_numpy(matrix.toarray().reshape(-1, size, size))
    parts = [kernel.matvec(part.permute(1, 2, 0)).reshape(size * size, -1) for part in rows.split(64)]
    return torch.cat(parts, 1).numpy()


def evidence(encoding: Any, data: Scan, size: int, depth: int) -> dict[str, float]:
    r"""How probable the readings y are under a Gaussian process with the tangent kernel.

    −½ log(yᵀ C⁻¹ y / n) − ½ log det C / n, with C = A K Aᵀ + ρ I, at the best scale of C (left out: constants) and at the best
    of a few ρ. Held-out projections decide less: what lies between two angles is what no other angle has seen.

    Returns:
      ``ridge``, ρ over the kernel's mean diagonal, and ``evidence``, in nats a reading.
    """
    kernel, _ = kernel_of_readings(encoding, data, size, depth)
    values, vectors = linalg.eigh(kernel)
    turned = (vectors.T @ data.readings.ravel()) ** 2
    found = []
    for ridge in RIDGES:
        spectrum = values.clip(0) + ridge * kernel.diagonal().mean()
        fit = math.log((turned / spectrum).sum() / len(turned))
        found.append((-0.5 * fit - 0.5 * float(np.log(spectrum).mean()), ridge))
    value, ridge = max(found)
    return {"ridge": ridge, "evidence": value}


def regression_picture(encoding: Any, data: Scan, size: int, depth: int, ridge: float) -> Any:
    """The picture (size, size) of kernel regression on all readings, in [0, 1]; 0 outside the field of view."""
    kernel, smooth = kernel_of_readings(encoding, data, size, depth)
    mean = kernel.diagonal().mean()
    weights = linalg.solve(kernel + ridge * mean * np.eye(len(kernel)), data.readings.ravel(), assume_a="pos")
    return (smooth @ weights).reshape(size, size).clip(0, 1) * field_of_view(size)


def choose(
    encodings: Sequence[tuple[float, Any]], data: Scan, size: int, depth: int
) -> list[dict[str, float]]:
    """`evidence` for each (σ, encoding): rows of sigma, ridge, evidence."""
    return [{"sigma": s, **evidence(e, data, size, depth)} for s, e in encodings]
