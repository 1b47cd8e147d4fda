"""fourier-image: its pictures, its predictions against the kernel itself, claims where they must fail, the whole in small."""

import dataclasses

import numpy as np
import pytest
import torch

from fingerpost.errors import ConfigError
from fingerpost.experiments import _image_files as files
from fingerpost.experiments import _image_fits as fits
from fingerpost.experiments import fourier_image
from fingerpost.spectral import pixel_centres, psnr, relu_ntk

from experiments.carrying import carry_out, results_of  # isort: skip

TINY = {
    "pictures": ("camera",), "texts": 1, "size": 32, "sigmas": (1.0, 4.0), "highest": (4.0, 8.0), "frequencies": 16,
    "width": 8, "depth": 1, "steps": 10, "batch": 64,
}  # fmt: skip
RECIPE = fits.Recipe(16, 8, 2, 10, 64, 1e-3)


def waves(size=24):
    x = pixel_centres(size, size, dtype=torch.float64)
    return 0.5 + 0.2 * torch.sin(2 * torch.pi * x[..., :1]) + 0.2 * torch.cos(6 * torch.pi * x[..., 1:])


@pytest.mark.parametrize("name", files.SAMPLES)
def test_every_sample_is_a_square_in_zero_to_one_without_a_download(name):
    pytest.importorskip("skimage")
    picture = files.sample_picture(name, 64)
    assert picture.shape == (64, 64, 1 if name == "camera" else 3)
    assert picture.min() >= 0
    assert picture.max() <= 1
    assert picture.std() > 0.1


def test_texts_depend_on_their_seed_and_are_ink_on_white():
    first, again, other = (files.text_picture(96, seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).mean() > 0.05
    assert first.shape == (96, 96, 3)
    assert (first.min(-1) > 0.99).mean() > 0.3
    assert (first.max(-1) < 0.6).mean() > 0.05


@pytest.mark.parametrize("kind", fits.TUNED)
def test_predictions_by_fft_are_dense_kernel_regression(kind, tmp_path):
    class Here:
        def once(self, stage, function):
            return function()

    image, sigma = waves(12), 3.0
    (row,) = fits.predicted(image, kind, (sigma,), RECIPE, 5, Here(), "stage")
    encoding = fits.encoding_of(kind, sigma, RECIPE.frequencies, 5)
    x = pixel_centres(12, 12, dtype=torch.float64)
    ours, theirs = (x[k::2, k::2].flatten(0, 1) for k in (0, 1))
    y, wanted = (image[k::2, k::2].flatten(0, 1) for k in (0, 1))
    K = relu_ntk(ours, depth=RECIPE.depth, encoding=encoding)
    ridge = fits.RIDGE * K.diagonal().mean() * torch.eye(len(K), dtype=torch.float64)
    weights = torch.linalg.solve(K + ridge, y - y.mean(0))
    guess = y.mean(0) + relu_ntk(theirs, ours, depth=RECIPE.depth, encoding=encoding) @ weights
    assert row == {"sigma": sigma, "psnr": pytest.approx(psnr(guess, wanted), abs=0.01)}


def test_the_kernel_prefers_the_sigma_that_fits_the_picture():
    class Here:
        def once(self, stage, function):
            return function()

    rows = fits.predicted(waves(32), fits.GAUSSIAN, (0.05, 2.0, 64.0), RECIPE, 0, Here(), "stage")
    assert fits.best_sigma(rows) == 2.0


def results(scores, trained, predicted):
    sigmas = (1.0, 2.0, 4.0)
    return {
        "fits": {kind: {"psnr_test": value} for kind, value in zip(fits.ENCODINGS, scores)},
        "sweep": [{"sigma": s, "psnr": v} for s, v in zip(sigmas, trained)],
        "predicted": [{"sigma": s, "psnr": v} for s, v in zip(sigmas, predicted)],
    }


def test_order_claims_hold_for_the_papers_order_and_fail_for_another():
    good = {f"p{k}": results((10, 14 + k / 9, 20, 21 + k / 9), (1, 2, 3), (1, 2, 3)) for k in range(4)}
    assert [claim.holds for claim in fourier_image.order_claims(good)] == [True] * 3
    bad = {f"p{k}": results((10, 9 + k / 9, 20, 19 + k / 9), (1, 2, 3), (1, 2, 3)) for k in range(4)}
    assert [claim.holds for claim in fourier_image.order_claims(bad)] == [False, True, False]


def test_one_picture_on_which_the_kernel_errs_refutes_the_choice_of_sigma():
    found = {f"p{k}": results((1, 2, 3, 4), (20, 22, 21), (19, 23, 20)) for k in range(3)}
    claims = {claim.name: claim for claim in fourier_image.sigma_claims(found)}
    assert claims["sigma-by-ntk"].holds
    assert claims["sigma-by-ntk"].measured == 0
    assert claims["sigma-ranked"].holds
    found["p3"] = results((1, 2, 3, 4), (20, 22, 18), (19, 20, 23))
    claims = {claim.name: claim for claim in fourier_image.sigma_claims(found)}
    assert not claims["sigma-by-ntk"].holds
    assert claims["sigma-by-ntk"].measured == 4
    assert not claims["sigma-ranked"].holds


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"pictures": ("astronaute",)}, "did you mean 'astronaut'"),
        ({"size": 33}, "size is 33"),
        ({"pictures": ("camera",), "texts": 0}, "at least two"),
        ({"sigmas": (4.0,)}, "a sweep needs"),
        ({"frequencies": 3}, "must be even"),
    ],
)
def test_settings_that_cannot_work_are_refused(changes, message):
    with pytest.raises(ConfigError, match=message):
        fourier_image.check(dataclasses.replace(fourier_image.Config(), **changes))


def test_the_whole_in_small_is_complete_and_repeats_to_the_bit(tmp_path):
    pytest.importorskip("skimage")
    first = carry_out("fourier-image", tmp_path / "a", **TINY)
    carry_out("fourier-image", tmp_path / "b", **TINY)
    assert results_of(tmp_path / "a") == results_of(tmp_path / "b")
    assert len(first.claims()) == 5
    figures = {path.stem for path in (tmp_path / "a" / "figures").iterdir()}
    assert figures == {"pictures-natural", "pictures-text", "sweep", "order"}
    table = (tmp_path / "a" / "tables" / "printed.csv").read_text()
    assert "25.57" in table
    assert "30.47" in table
    pictures = {path.name for path in (tmp_path / "a" / "pictures").iterdir()}
    assert {"camera-original.png", "camera-none.png", "text-1-gaussian-4.png"} <= pictures
