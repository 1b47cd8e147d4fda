"""ct: the phantom and its projections against each other, classical reconstructions, the network's projector, the whole."""

import dataclasses

import numpy as np
import pytest
import torch

from fingerpost.errors import ConfigError
from fingerpost.experiments import _ct_classical as classical
from fingerpost.experiments import _ct_kernel as kernel
from fingerpost.experiments import _ct_network as network
from fingerpost.experiments import _ct_phantom as phantom
from fingerpost.experiments import ct
from fingerpost.spectral import FourierFeatures

from experiments.carrying import carry_out, results_of  # isort: skip

TINY = {
    "seeds": 2, "projections": 6, "detectors": 16, "size": 16, "sigmas": (1.0, 4.0), "highest": (4.0, 8.0),
    "kernel_size": 8, "frequencies": 8, "width": 8, "depth": 1, "steps": 6, "rays": 8, "samples": 8, "iterations": 5,
}  # fmt: skip


def test_exact_line_integrals_agree_with_dense_sums_over_the_phantom():
    angles, offsets = np.array([0.0, 0.3, 1.1, 2.9]), np.array([-0.7, -0.2, 0.05, 0.5])
    t = (np.arange(200_000) + 0.5) / 100_000 - 1
    theta, s = angles[:, None, None], offsets[None, :, None]
    x, y = s * np.cos(theta) - t * np.sin(theta), s * np.sin(theta) + t * np.cos(theta)
    sums = phantom.density(x, y).sum(-1) / 100_000
    np.testing.assert_allclose(phantom.line_integrals(angles, offsets), sums, atol=5e-5)


def test_the_phantom_lies_in_zero_to_one_and_every_projection_has_its_mass():
    picture = phantom.picture(64, oversample=8)
    assert picture.min() == 0
    assert picture.max() == 1
    scan = phantom.scan(7, 2000)
    masses = scan.readings.sum(1) * 2 / 2000
    np.testing.assert_allclose(masses, masses[0], rtol=1e-3)
    assert masses[0] == pytest.approx(picture.mean() * 4, rel=5e-3)


def test_a_scan_covers_half_a_turn_once():
    scan = phantom.scan(4, 10)
    np.testing.assert_allclose(scan.angles, np.pi * np.arange(4) / 4)
    np.testing.assert_allclose(scan.offsets, np.arange(-0.9, 1.0, 0.2))


def test_back_projection_of_many_angles_comes_back_to_the_phantom():
    truth = phantom.picture(64)
    few, many = (
        ct.score(classical.filtered_back_projection(phantom.scan(k, 64), 64).clip(0, 1), truth)
        for k in (20, 200)
    )
    assert many > few + 5
    assert many > 27


def test_back_projection_agrees_with_scikit_images():
    transform = pytest.importorskip("skimage.transform")
    size = 65  # odd: both have their centre on a pixel
    scan = phantom.scan(60, size)
    ours = classical.filtered_back_projection(scan, size)
    options = {"theta": np.rad2deg(scan.angles), "filter_name": "ramp", "circle": True, "output_size": size}
    theirs = transform.iradon(scan.readings.T * size / 2, **options)
    inside = phantom.field_of_view(size) & (np.hypot(*phantom.axes_of(size)) < 0.9)
    assert np.abs(ours - theirs)[inside].mean() < 0.02


def test_the_ramp_filter_keeps_the_mean_and_the_window_damps():
    readings = phantom.scan(3, 64).readings
    ramp, hann = (classical.ramp_filtered(readings, 2 / 64, window) for window in ("ramp", "hann"))
    assert np.abs(np.diff(hann)).sum() < 0.6 * np.abs(np.diff(ramp)).sum()
    level = classical.filtered_back_projection(phantom.scan(180, 64), 64).mean()
    assert level == pytest.approx(phantom.picture(64).mean(), rel=0.05)


def test_the_projector_of_pixels_reads_what_the_phantom_has():
    scan = phantom.scan(5, 64)
    readings = classical.projector(scan, 128, 256) @ phantom.picture(128).ravel()
    assert np.abs(readings - scan.readings.ravel()).mean() < 0.01 * scan.readings.max()


def test_least_squares_on_pixels_fits_readings_and_keeps_to_the_range():
    scan = phantom.scan(20, 32)
    picture = classical.least_squares_on_pixels(scan, 32, 100)
    assert picture.min() >= 0
    assert picture.max() <= 1
    first = classical.least_squares_on_pixels(scan, 32, 1)
    truth = phantom.picture(32)
    assert ct.score(picture, truth) > ct.score(first, truth) + 3


class Ellipses(torch.nn.Module):
    """The phantom itself, as if a network had learnt it."""

    def forward(self, points):
        x, y = 2 * points[..., 1] - 1, 1 - 2 * points[..., 0]
        return torch.from_numpy(phantom.density(x.numpy(), y.numpy())).to(points)[..., None]


def test_the_rays_of_a_perfect_network_read_the_exact_integrals():
    rays = network.Rays(phantom.scan(6, 20), torch.zeros((), dtype=torch.float64))
    assert len(rays) == 120
    assert network.reading_error(Ellipses(), rays, 4000) < 5e-4


def test_a_random_shift_of_samples_leaves_the_mean_of_the_integral_exact():
    rays = network.Rays(phantom.scan(3, 8), torch.zeros((), dtype=torch.float64))
    index = torch.tensor([5, 12, 20])
    shifts = (torch.arange(400, dtype=torch.float64) + 0.5) / 400
    sums = []
    for shift in shifts:
        points, weight = rays.points(index, 10, shift)
        sums.append(Ellipses()(points)[..., 0].sum(1) * weight[:, 0])
    torch.testing.assert_close(torch.stack(sums).mean(0), rays.readings[index], rtol=0, atol=2e-3)


def test_gradients_pass_through_the_projector():
    scan = phantom.scan(4, 8)
    net = network.new_network(FourierFeatures.basic(2), 8, 1, 0, scan, dtype="float64")
    rays = network.Rays(scan, next(net.parameters()))
    points, weight = rays.points(torch.tensor([3]), 16, 0.5)
    reading = (net(points)[..., 0].sum(1) * weight[:, 0])[0]
    reading.backward()
    bias = net.layers[-1].bias
    step = 1e-6
    with torch.no_grad():
        bias += step
        moved = (net(points)[..., 0].sum(1) * weight[:, 0])[0]
    assert bias.grad.item() == pytest.approx(((moved - reading) / step).item(), rel=1e-4)


def test_a_network_starts_near_the_mean_density():
    scan = phantom.scan(6, 64)
    encoding = FourierFeatures.gaussian(2, 16, 3.0, torch.Generator().manual_seed(0))
    net = network.new_network(encoding, 32, 2, 0, scan, dtype="float64")
    inside = phantom.field_of_view(32)
    start, truth = network.picture_of(net, 32)[inside].mean(), phantom.picture(32)[inside].mean()
    assert start == pytest.approx(truth, rel=0.15)


def test_the_kernel_of_readings_is_the_kernel_of_pixels_seen_through_the_projector():
    from fingerpost.spectral import StationaryNTK

    scan = phantom.scan(3, 6)
    encoding = FourierFeatures.gaussian(2, 8, 2.0, torch.Generator().manual_seed(0))
    found, smooth = kernel.kernel_of_readings(encoding, scan, 6, 2)
    dense = StationaryNTK.on_grid(encoding, (6, 6), depth=2).dense().numpy()
    matrix = classical.projector(scan, 6, 12).toarray()
    np.testing.assert_allclose(found, matrix @ dense @ matrix.T, rtol=1e-8, atol=1e-10)
    np.testing.assert_allclose(smooth, dense @ matrix.T, rtol=1e-8, atol=1e-10)


def test_evidence_is_that_of_a_gaussian_process_at_its_best_scale():
    scan = phantom.scan(3, 6)
    encoding = FourierFeatures.basic(2)
    found = kernel.evidence(encoding, scan, 6, 1)
    K, _ = kernel.kernel_of_readings(encoding, scan, 6, 1)
    y, n = scan.readings.ravel(), scan.readings.size
    C = K + found["ridge"] * K.diagonal().mean() * np.eye(n)
    scale = y @ np.linalg.solve(C, y) / n
    _, logdet = np.linalg.slogdet(scale * C)
    log_density = -0.5 * y @ np.linalg.solve(scale * C, y) - 0.5 * logdet
    assert found["evidence"] == pytest.approx(log_density / n + 0.5, rel=1e-6)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seeds": 1}, "seeds is 1"),
        ({"projections": 1}, "projections is 1"),
        ({"samples": 0}, "samples is 0"),
        ({"frequencies": 9}, "must be even"),
        ({"sigmas": (0.0, 1.0)}, "sigmas is"),
        ({"learning_rate": 0.0}, "learning_rate"),
    ],
)
def test_settings_that_cannot_work_are_refused(changes, message):
    with pytest.raises(ConfigError, match=message):
        ct.check(dataclasses.replace(ct.Config(), **changes))


def fake(gaussian, none=(15.0, 15.2, 15.1)):
    rows = {kind: [{"psnr": v} for v in none] for kind in ct.fits.ENCODINGS}
    rows |= {kind: [{"psnr": v - 0.5} for v in none] for kind in (ct.fits.BASIC, ct.fits.POSITIONAL)}
    rows[ct.fits.GAUSSIAN] = [{"psnr": v} for v in gaussian]
    return rows


def test_claims_hold_where_features_win_and_fail_where_they_do_not():
    truth = phantom.picture(16)
    classics = {
        name: (truth + noise).clip(0, 1)
        for name, noise in ((ct.RAMP, 0.2), (ct.HANN, 0.1), (ct.PIXELS, 0.05))
    }
    best = ct.score(classics[ct.PIXELS], truth)
    won = {c.name: c.holds for c in ct.claims(fake((best + 1, best + 1.1, best + 0.9)), classics, truth)}
    assert won["gaussian-over-none"]
    assert won["gaussian-over-back-projection"]
    assert won["gaussian-over-pixels"]
    assert not won["basic-over-none"]
    lost = {c.name: c.holds for c in ct.claims(fake((15.0, 15.1, 14.9)), classics, truth)}
    assert not any(lost.values())


def test_the_whole_in_small_is_complete_and_repeats_to_the_bit(tmp_path):
    first = carry_out("ct", tmp_path / "a", **TINY)
    carry_out("ct", tmp_path / "b", **TINY)
    assert results_of(tmp_path / "a") == results_of(tmp_path / "b")
    assert len(first.claims()) == 5
    names = {path.name for path in (tmp_path / "a" / "pictures").iterdir()}
    assert {"phantom.png", "gaussian-0.png", "none-1.png", "least-squares-on-pixels.png"} <= names
    assert {path.stem for path in (tmp_path / "a" / "figures").iterdir()} == {
        "pictures",
        "curves",
        "evidence",
    }
