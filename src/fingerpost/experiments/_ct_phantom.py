"""The Shepp–Logan phantom in closed form: its pictures, and its line integrals without any grid."""

from __future__ import annotations

from typing import Any, NamedTuple

from fingerpost._lazy import lazy_import

np = lazy_import("numpy")

# density, half axes a and b, centre x and y, rotation in degrees; in the square [−1, 1]², y upwards. Geometry of Shepp and
# Logan (1974), densities of Toft (1996), whose tissues differ enough to be seen.
ELLIPSES = (
    (1.0, 0.69, 0.92, 0.0, 0.0, 0.0),
    (-0.8, 0.6624, 0.874, 0.0, -0.0184, 0.0),
    (-0.2, 0.11, 0.31, 0.22, 0.0, -18.0),
    (-0.2, 0.16, 0.41, -0.22, 0.0, 18.0),
    (0.1, 0.21, 0.25, 0.0, 0.35, 0.0),
    (0.1, 0.046, 0.046, 0.0, 0.1, 0.0),
    (0.1, 0.046, 0.046, 0.0, -0.1, 0.0),
    (0.1, 0.046, 0.023, -0.08, -0.605, 0.0),
    (0.1, 0.023, 0.023, 0.0, -0.606, 0.0),
    (0.1, 0.023, 0.046, 0.06, -0.605, 0.0),
)


class Scan(NamedTuple):
    """Parallel-beam readings: angles θ (K,) in radians, offsets s (D,) in [−1, 1], line integrals (K, D)."""

    angles: Any
    offsets: Any
    readings: Any


def density(x: Any, y: Any) -> Any:
    """The phantom at points of [−1, 1]², in [0, 1]."""
    total = np.zeros(np.broadcast(x, y).shape)
    for value, a, b, x0, y0, degrees in ELLIPSES:
        phi = np.deg2rad(degrees)
        along = (x - x0) * np.cos(phi) + (y - y0) * np.sin(phi)
        across = (y - y0) * np.cos(phi) - (x - x0) * np.sin(phi)
        total += value * ((along / a) ** 2 + (across / b) ** 2 <= 1)
    return total.clip(0, 1)  # sums of tenths end a rounding below 0


def line_integrals(angles: Any, offsets: Any) -> Any:
    r"""Exact integrals along the lines x cos θ + y sin θ = s, shape (K, D).

    An ellipse of density ρ gives $2 \rho a b \sqrt{\gamma^2 - u^2} / \gamma^2$ with $u = s - x_0\cos\theta - y_0\sin\theta$
    and $\gamma^2 = a^2\cos^2(\theta-\varphi) + b^2\sin^2(\theta-\varphi)$. Source: Kak and Slaney (1988), Principles of
    computerized tomographic imaging, section 3.1.
    """
    theta, s = np.asarray(angles)[:, None], np.asarray(offsets)[None, :]
    total = np.zeros((theta.shape[0], s.shape[1]))
    for value, a, b, x0, y0, degrees in ELLIPSES:
        turned = theta - np.deg2rad(degrees)
        square = (a * np.cos(turned)) ** 2 + (b * np.sin(turned)) ** 2
        inside = square - (s - x0 * np.cos(theta) - y0 * np.sin(theta)) ** 2
        total += 2 * value * a * b * np.sqrt(inside.clip(0)) / square
    return total


def scan(projections: int, detectors: int) -> Scan:
    """Readings from evenly spaced angles in [0, π), at the centres of evenly spaced detectors."""
    angles = np.arange(projections) * np.pi / projections
    offsets = (2 * np.arange(detectors) + 1) / detectors - 1
    return Scan(angles, offsets, line_integrals(angles, offsets))


def axes_of(size: int) -> tuple[Any, Any]:
    """The x (1, size) and y (size, 1) of pixel centres in [−1, 1]², rows downwards."""
    centres = (2 * np.arange(size) + 1) / size - 1
    return centres[None, :], -centres[:, None]


def picture(size: int, oversample: int = 4) -> Any:
    """The phantom as pixel means (size, size), from oversample² points a pixel."""
    fine = density(*axes_of(size * oversample))
    return fine.reshape(size, oversample, size, oversample).mean((1, 3))


def field_of_view(size: int) -> Any:
    """The pixels whose centres lie in the disc that every projection sees, (size, size)."""
    x, y = axes_of(size)
    return x**2 + y**2 <= 1
