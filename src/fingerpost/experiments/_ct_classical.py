"""Reconstructions without a network: filtered back-projection, and least squares on pixels step by step."""

from __future__ import annotations

from typing import Any

from fingerpost._lazy import lazy_import
from fingerpost.experiments._ct_phantom import Scan, axes_of, field_of_view

np = lazy_import("numpy")
sparse = lazy_import("scipy.sparse")


def ramp_filtered(readings: Any, spacing: float, window: str) -> Any:
    """Each projection through the ramp filter, band-limited to the detectors' spacing.

    The filter's samples in space are 1/(4 d²) at 0, −1/(π n d)² at odd n and 0 at even n, which keeps the mean right where
    |ω| sampled in frequency does not. Source: Kak and Slaney (1988), equation 3.61.

    Args:
      readings: Line integrals, shape (K, D).
      spacing: d.
      window: "ramp" for none, or "hann", which damps high frequencies.
    """
    count = readings.shape[1]
    length = 2 ** int(np.ceil(np.log2(2 * count)))
    n = np.minimum(np.arange(length), length - np.arange(length))
    odd = n % 2 == 1
    kernel = np.zeros(length)
    kernel[0] = 1 / (4 * spacing**2)
    kernel[odd] = -1 / (np.pi * n[odd] * spacing) ** 2
    response = np.fft.rfft(kernel).real
    if window == "hann":
        response = response * (0.5 + 0.5 * np.cos(np.pi * np.linspace(0, 1, len(response))))
    spectrum = np.fft.rfft(readings, length, axis=1) * response
    return spacing * np.fft.irfft(spectrum, length, axis=1)[:, :count]


def filtered_back_projection(data: Scan, size: int, window: str = "ramp") -> Any:
    """The picture (size, size) by filtered back-projection with linear interpolation; 0 outside the field of view."""
    x, y = axes_of(size)
    spacing = data.offsets[1] - data.offsets[0]
    total = np.zeros((size, size))
    for theta, row in zip(data.angles, ramp_filtered(data.readings, spacing, window)):
        total += np.interp(x * np.cos(theta) + y * np.sin(theta), data.offsets, row, left=0.0, right=0.0)
    return total * np.pi / len(data.angles) * field_of_view(size)


def projector(data: Scan, size: int, samples: int) -> Any:
    """The sparse matrix (K·D, size²) from pixels to readings: samples along each ray, read bilinearly."""
    theta, s = (part.ravel() for part in np.meshgrid(data.angles, data.offsets, indexing="ij"))
    half = np.sqrt((1 - s**2).clip(0))
    t = half[:, None] * ((2 * np.arange(samples) + 1) / samples - 1)
    x = s[:, None] * np.cos(theta)[:, None] - t * np.sin(theta)[:, None]
    y = s[:, None] * np.sin(theta)[:, None] + t * np.cos(theta)[:, None]
    across, down = ((1 + part) * size / 2 - 0.5 for part in (x, -y))
    weight = np.broadcast_to(2 * half[:, None] / samples, t.shape)
    rays = np.broadcast_to(np.arange(len(s))[:, None], t.shape)
    parts = []
    for i in (0, 1):
        for j in (0, 1):
            row, column = np.floor(down).astype(int) + i, np.floor(across).astype(int) + j
            share = (1 - np.abs(down - row)) * (1 - np.abs(across - column)) * weight
            place = row.clip(0, size - 1) * size + column.clip(0, size - 1)
            parts.append(sparse.coo_matrix((share.ravel(), (rays.ravel(), place.ravel())), (len(s), size**2)))
    return sum(parts[1:], parts[0]).tocsr()


def least_squares_on_pixels(data: Scan, size: int, iterations: int) -> Any:
    """Pixels in [0, 1] that fit the readings, by the simultaneous iterative reconstruction technique (SIRT).

    x ← clip(x + C Aᵀ R (b − A x)), with R and C the inverse sums of A's rows and columns (Gregor and Benson 2008,
    doi:10.1109/TMI.2008.923696). What a network's picture has to beat: it knows the range too, but no smoothness.
    """
    matrix = projector(data, size, 2 * size)
    rows, columns = (np.asarray(matrix.sum(axis)).ravel() for axis in (1, 0))
    by_row, by_column = (
        np.divide(1, part, out=np.zeros_like(part), where=part > 1e-9) for part in (rows, columns)
    )
    x, b = np.zeros(size**2), data.readings.ravel()
    for _ in range(iterations):
        x = (x + by_column * (matrix.T @ (by_row * (b - matrix @ x)))).clip(0, 1)
    return x.reshape(size, size) * field_of_view(size)
