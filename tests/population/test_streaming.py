"""decode_moments is decode's mean and variance: any law, gain, prior, circle, rank and chunk."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from fingerpost.errors import InvalidTypeError, InvalidValueError, ShapeError
from fingerpost.population import ExponentialFamilyCode, GammaGain, GaussianTuning, PoissonCode, product_grid
from population.problems import CIRCLE, CODES, F64, GRID, TILING, TUNINGS, generator, line, rough

SHOWN = 8 * torch.rand(300, generator=generator(1), dtype=F64) - 4


@pytest.mark.parametrize("name", CODES)
def test_moments_are_those_of_the_posterior(name: str) -> None:
    code = CODES[name]
    counts = code.encode(SHOWN, 3.0, generator())
    whole = code.decode(counts, GRID, 3.0)
    found = code.decode_moments(counts, GRID, 3.0, dtype=torch.float64)
    torch.testing.assert_close(found.mean, whole.mean, rtol=0, atol=1e-9)
    torch.testing.assert_close(found.variance, whole.variance, rtol=1e-9, atol=0)
    single = code.decode_moments(counts, GRID, 3.0)
    assert float(((single.mean - whole.mean) / whole.standard_deviation).abs().max()) < 1e-4
    assert float((single.variance / whole.variance - 1).abs().max()) < 1e-4


@pytest.mark.parametrize("gain", [2.0, None, "any", GammaGain(2.0, 0.5), torch.linspace(0.5, 4, 300)])
@pytest.mark.parametrize("prior", [None, -0.5 * (GRID / 3) ** 2, torch.where(GRID > -2, 0.0, -math.inf)])
def test_gains_and_priors_enter_as_in_decode(gain: object, prior: torch.Tensor | None) -> None:
    code = PoissonCode(TUNINGS["Gaussian, all different"])
    counts = code.encode(SHOWN, 2.0, generator())
    whole = code.decode(counts, GRID, gain, prior=prior)
    found = code.decode_moments(counts, GRID, gain, prior=prior, dtype=torch.float64, chunk=128)
    torch.testing.assert_close(found.mean, whole.mean, rtol=0, atol=1e-8)
    torch.testing.assert_close(found.variance, whole.variance, rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize("gain", [0.05, 1.0, 30.0])
def test_circles_are_cut_opposite_each_trials_mean(gain: float) -> None:
    code = PoissonCode(TUNINGS["von Mises"])
    counts = code.encode(180 * torch.rand(400, generator=generator(2), dtype=F64), gain, generator(3))
    counts = counts[counts.sum(1) > 0]  # without a spike the mean on a circle is anywhere
    whole = code.decode(counts, CIRCLE, gain, period=180.0)
    found = code.decode_moments(counts, CIRCLE, gain, period=180.0, dtype=torch.float64)
    assert float(((found.mean - whole.mean + 90) % 180 - 90).abs().max()) < 1e-8
    torch.testing.assert_close(found.variance, whole.variance, rtol=1e-9, atol=0)


@pytest.mark.parametrize("chunk", [1, 7, 64, 299, 300, 1000])
def test_chunks_change_nothing(chunk: int) -> None:
    code = PoissonCode(TILING)
    counts = code.encode(SHOWN, 2.0, generator())
    one, other = (code.decode_moments(counts, GRID, 2.0, dtype=torch.float64, chunk=c) for c in (300, chunk))
    torch.testing.assert_close(one.mean, other.mean, rtol=0, atol=1e-10)


def test_kernels_of_low_and_of_full_rank_are_decoded_alike() -> None:
    smooth, steep = PoissonCode(TILING).family, rough()
    for code, points, neurons in ((smooth, 401, 81), (steep, 200, 30)):
        grid = line(-10, 10, points)
        counts = torch.poisson(
            torch.rand(2000, neurons, generator=generator(5), dtype=F64), generator=generator(6)
        )
        whole = code.decode(counts, grid)
        found = code.decode_moments(counts, grid, dtype=torch.float64)
        torch.testing.assert_close(found.mean, whole.mean, rtol=0, atol=1e-7)
        torch.testing.assert_close(found.variance, whole.variance, rtol=1e-7, atol=1e-12)


def test_trials_far_from_the_rest_are_decoded_again_and_right() -> None:
    code = PoissonCode(TILING)
    counts = code.encode(SHOWN, 0.5, generator())
    counts[[3, 77]] = 400 * counts[[3, 77]]
    whole = code.decode(counts, GRID, 0.5)
    found = code.decode_moments(counts, GRID, 0.5)
    assert float((found.mean - whole.mean).abs().max()) < 1e-4
    assert float((found.variance / whole.variance - 1).abs().max()) < 1e-3


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float32, np.int64])
def test_arrays_of_any_whole_type_are_read(dtype: type) -> None:
    code = PoissonCode(TILING)
    counts = code.encode(SHOWN, 2.0, generator())
    found = code.decode_moments(counts.numpy().astype(dtype), GRID, 2.0, dtype=torch.float64)
    torch.testing.assert_close(found.mean, code.decode(counts, GRID, 2.0).mean, rtol=0, atol=1e-9)


def test_unequal_steps_and_one_trial() -> None:
    grid = torch.cat([line(-8, 0, 200)[:-1], line(0, 8, 70)])
    code = PoissonCode(TILING)
    counts = code.encode(torch.tensor([1.0]), 3.0, generator())
    whole, found = code.decode(counts, grid, 3.0), code.decode_moments(counts, grid, 3.0, dtype=torch.float64)
    torch.testing.assert_close(found.variance, whole.variance, rtol=1e-9, atol=0)


@pytest.mark.parametrize(
    ("act", "error", "message"),
    [
        (lambda c, r: c.decode_moments(r - 1, GRID), InvalidValueError, "of trials 0 to 299, counts hold -1"),
        (lambda c, r: c.decode_moments(r + 0.5, GRID), InvalidValueError, "counts hold"),
        (lambda c, r: c.decode_moments(r[0], GRID), ShapeError, "expected .T, N."),
        (lambda c, r: c.decode_moments(r[:0], GRID), ShapeError, "T at least 1"),
        (lambda c, r: c.decode_moments(r[:, :5], GRID), ShapeError, "of 5 neurons"),
        (lambda c, r: c.decode_moments(r, []), ShapeError, "grid is empty"),
        (lambda c, r: c.decode_moments(r, GRID, [1.0, 2.0]), ShapeError, "gain has 2 entries"),
        (lambda c, r: c.decode_moments(r, GRID, chunk=0), InvalidValueError, "chunk is 0"),
        (lambda c, r: c.decode_moments(r, GRID, dtype=torch.float16), InvalidTypeError, "dtype is torch.float16"),
        (lambda c, r: PoissonCode(GaussianTuning(product_grid([0.0], [1.0]), 1.0)).decode_moments(r, GRID),
         ShapeError, "stimuli that are numbers"),
    ],
)  # fmt: skip
def test_bad_arguments_are_refused_by_name(act: object, error: type[Exception], message: str) -> None:
    code = PoissonCode(TILING)
    counts = code.encode(SHOWN, 1.0, generator())
    with pytest.raises(error, match=message):
        act(code, counts)  # pyright: ignore[reportCallIssue]


def test_a_kernel_without_offset_is_decoded() -> None:
    code = ExponentialFamilyCode(lambda s: torch.stack([s, -0.5 * s**2], -1))
    activity = torch.tensor([[3.0, 2.0], [0.0, 5.0]], dtype=F64)
    found = code.decode_moments(activity, GRID, dtype=torch.float64)
    torch.testing.assert_close(found.mean, torch.tensor([1.5, 0.0], dtype=F64), rtol=0, atol=1e-9)
    torch.testing.assert_close(found.variance, torch.tensor([0.5, 0.2], dtype=F64), rtol=1e-9, atol=0)
