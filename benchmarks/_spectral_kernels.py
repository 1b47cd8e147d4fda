"""Rows of spectral.py on analytic kernels: float32's digits, and grids by FFT against dense matrices.

Each part takes `quick` and returns rows. Sizes, tolerance and network are in the rows.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from _interleave import interleave
from _rows import Row, over_base
from fingerpost import spectral

TABLE = Path(__file__).parent.parent / "tests" / "spectral" / "references" / "relu_kernels.json"
DIGITS, REGRESSION = 1e-6, 1.0
"""Largest error over the largest entry; seconds of a regression on half a picture."""
EIGENVALUES = {512: 1 / 54, 2048: 1 / 1759}
ADAM_STEPS = 2000


def digits(quick: bool) -> list[Row]:
    """Float32 kernels against 60 digits, beside the recursion as printed, with an arccos."""
    references = json.loads(TABLE.read_text())["mpmath"]
    rows = []
    for low, high, name in ((0.0, 1e-5, "θ ≤ 1e-5"), (5e-5, 2e-2, "1e-4 ≤ θ ≤ 1e-2"), (0.05, 3.2, "θ ≥ 0.1")):
        ours = base = 0.0
        for row in references:
            if low <= row["angle"] <= high:
                settings = {key: row[key] for key in ("depth", "weight_std", "bias_std")}
                x, y = torch.tensor([row["x"]]), torch.tensor([row["y"]])
                size = math.sqrt(_entry(x, x, settings) * _entry(y, y, settings))
                ours = max(ours, abs(_entry(x, y, settings) - row["ntk"]) / size)
                base = max(base, abs(float(_printed(x, y, **settings)) - row["ntk"]) / size)
        rows.append(_figure("analytic NTK in float32", f"depth 1 to 8, {name}", ours, base, DIGITS,
                            "of √(K₁₁K₂₂), largest error", "base: the printed recursion, with an arccos"))  # fmt: skip
    return rows


def eigenvalues(quick: bool) -> list[Row]:
    """All eigenvalues of a circulant kernel, given the kernel and from the encoding on."""
    rows = []
    for n in (512,) if quick else (512, 1024, 2048):
        encoding = spectral.FourierFeatures.power(1.0, n).double()
        x = torch.arange(n, dtype=torch.float64)[:, None] / n
        K = spectral.relu_ntk(x, depth=3, encoding=encoding)
        grid = spectral.StationaryNTK.on_grid(encoding, (n,), depth=3)
        error = float((grid.eigenvalues().sort().values - torch.linalg.eigvalsh(K)).abs().max() / K.max())
        note = f"depth 3, p = 1; eigenvalues agree to {error:.1e} of the kernel's diagonal"
        functions = {"ours": grid.eigenvalues, "bare": lambda K=K: torch.linalg.eigvalsh(K)}
        times = interleave(functions, 5 if n > 1024 else 9, at_least=0.05)
        rows.append(over_base("spectral: eigenvalues of a circulant kernel", f"n = {n}", times,
                              "torch.linalg.eigvalsh", EIGENVALUES.get(n), None, note))  # fmt: skip
        functions = {
            "ours": lambda e=encoding, n=n: spectral.StationaryNTK.on_grid(e, (n,), depth=3).eigenvalues(),
            "bare": lambda e=encoding, x=x: torch.linalg.eigvalsh(spectral.relu_ntk(x, depth=3, encoding=e)),
        }
        times = interleave(functions, 3 if n > 1024 else 7, warmup=1, at_least=0.05)
        rows.append(over_base("spectral: kernel and its eigenvalues", f"n = {n}", times, "relu_ntk, then eigvalsh",
                              None, None, note))  # fmt: skip
    return rows


def regression(quick: bool) -> list[Row]:
    """NTK regression on 128×128 pixels, predicted in between, beside 2,000 Adam steps of the network itself."""
    picture = _picture(256)
    train = picture[::2, ::2].float()
    rows = []
    for sigma in (10.0,) if quick else (1.0, 10.0, 40.0):
        encoding = spectral.FourierFeatures.gaussian(2, 256, sigma, torch.Generator().manual_seed(0))

        def whole(encoding: spectral.FourierFeatures = encoding) -> Tensor:
            kernel = spectral.StationaryNTK.on_grid(encoding, (128, 128), depth=3)
            return kernel.regress(train, (1 / 256, 1 / 256), tolerance=1e-3)

        kernel = spectral.StationaryNTK.on_grid(encoding, (128, 128), depth=3)
        products = kernel.solve(train, tolerance=1e-3).iterations
        seconds = _seconds(whole, 3 if quick else 5)
        adam = ADAM_STEPS * _adam_step(encoding, train)
        note = (
            f"3 channels, relative residual 1e-3 in {products} products; base: {ADAM_STEPS} Adam steps of the network "
            "(3 hidden layers of 256, all pixels, cached features), from the time of 3"
        )
        rows.append(_figure("NTK regression, 128×128 pixels", f"σ = {sigma:g}", seconds, adam, REGRESSION, "s of CPU time",
                            note))  # fmt: skip
    return rows


def _figure(what: str, case: str, ours: float, base: float, target: float, unit: str, note: str) -> Row:
    """A row whose figure is ours itself, not a ratio; the target is a bound on it."""
    return {
        "system": f"spectral: {what}", "case": case, "ours": ours, "base": base, "peer": None, "peer_name": None,
        "floor": None, "ratio": ours, "interval": None, "target": target, "holds": ours <= target, "unit": unit,
        "repeats": 1, "note": note,
    }  # fmt: skip


def _entry(x: Tensor, y: Tensor, settings: dict[str, float]) -> float:
    return float(spectral.relu_ntk(x, y, **settings))


def _printed(x: Tensor, y: Tensor, depth: int, weight_std: float, bias_std: float) -> Tensor:
    """The recursion as papers print it, in the precision of its arguments."""
    weight, bias, width = weight_std**2, bias_std**2, x.shape[1]
    q1, q2, cross = (weight * (a * b).sum() / width + bias for a, b in ((x, x), (y, y), (x, y)))
    ntk = cross
    for _ in range(depth):
        root = (q1 * q2).sqrt()
        theta = torch.arccos((cross / root).clamp(-1, 1))
        cross = weight * root * (theta.sin() + (math.pi - theta) * theta.cos()) / (2 * math.pi) + bias
        ntk = cross + weight * ntk * (math.pi - theta) / (2 * math.pi)
        q1, q2 = weight * q1 / 2 + bias, weight * q2 / 2 + bias
    return ntk


def _picture(n: int) -> Tensor:
    """Noise with the 1/f amplitudes of natural pictures, three channels in [0, 1]."""
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(3, n, n, dtype=torch.float64, generator=generator)
    f = torch.fft.fftfreq(n, 1 / n, dtype=torch.float64)
    amplitude = 1 / (1 + (f[:, None].square() + f.square()).sqrt())
    picture = torch.fft.ifft2(torch.fft.fft2(noise) * amplitude).real
    low, high = picture.amin((1, 2), True), picture.amax((1, 2), True)
    return ((picture - low) / (high - low)).movedim(0, -1)


def _seconds(function: Callable[[], object], repeats: int) -> float:
    return sorted(interleave({"ours": function}, repeats, warmup=1)["ours"])[repeats // 2]


def _adam_step(encoding: spectral.FourierFeatures, train: Tensor) -> float:
    """CPU seconds of one step on all pixels, one thread: the best of three."""
    axis = torch.arange(128) / 128
    points = torch.stack(torch.meshgrid(axis, axis, indexing="ij"), -1).reshape(-1, 2)
    net = spectral.CoordinateMLP(
        2, 3, 256, 3, encoding=encoding, sigmoid=True, generator=torch.Generator().manual_seed(0)
    )
    features, labels = net.encode(points), train.reshape(-1, 3)
    optimizer = torch.optim.Adam(net.parameters(), 1e-3)

    def step() -> None:
        optimizer.zero_grad()
        torch.nn.functional.mse_loss(net.from_features(features), labels).backward()
        optimizer.step()

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        times = []
        for _ in range(4):
            start = time.process_time()
            step()
            times.append(time.process_time() - start)
    finally:
        torch.set_num_threads(threads)
    return min(times[1:])


PARTS: dict[str, Callable[[bool], list[Row]]] = {
    "digits": digits,
    "eigenvalues": eigenvalues,
    "regression": regression,
}
