"""ppc: a user's own spike counts decoded or refused; decoders and measures where their answers are known."""

from __future__ import annotations

import csv
import dataclasses

import numpy as np
import pytest

from fingerpost.cli import main
from fingerpost.errors import ConfigError
from fingerpost.experiments import _ppc_measures as measures
from fingerpost.experiments import _ppc_recordings as recordings
from fingerpost.experiments import _ppc_simple as simple
from fingerpost.experiments import load_experiment, ppc

from experiments.carrying import carry_out, results_of  # isort: skip

TINY = {"trials": 240, "neurons": 16, "folds": 3, "points": 60, "bins": 8}


@pytest.fixture(scope="module")
def recording():
    return recordings.simulated(240, 16, seed=1)


def saved_npz(path, counts, stimuli):
    np.savez(path, counts=counts, stimulus=stimuli)
    return path


def saved_csv(path, counts, stimuli):
    heads = ["stimulus", *(f"n{k}" for k in range(counts.shape[1]))]
    lines = [",".join(heads)] + [
        f"{s:.4f}," + ",".join(str(int(c)) for c in row) for s, row in zip(stimuli, counts)
    ]
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory, recording):
    root = tmp_path_factory.mktemp("ppc")
    path = saved_npz(root / "counts.npz", *recording)
    return carry_out("ppc", root / "run", data=str(path), period=180.0, **TINY)


def rows_of(folder):
    with open(folder.directory / "decoded.csv", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def test_every_trial_is_decoded_once_and_written_with_its_region(folder, recording):
    rows = rows_of(folder)
    assert [int(row["trial"]) for row in rows] == list(range(1, 241))
    assert {int(row["fold"]) for row in rows} == {1, 2, 3}
    np.testing.assert_allclose([float(row["stimulus"]) for row in rows], recording[1], rtol=1e-5)
    for stem in ("any_gain", "learned_kernel", "population_vector"):
        for end in ("mean", "sd", "low", "high"):
            assert f"{stem}_{end}" in rows[0]
    error = np.array([float(row["any_gain_mean"]) - float(row["stimulus"]) for row in rows])
    error -= 180 * np.round(error / 180)
    assert np.sqrt((error**2).mean()) < 25  # 52 without any spike


def test_a_second_run_leaves_the_same_bytes(folder, tmp_path):
    carry_out(
        "ppc", tmp_path / "again", data=str(folder.directory.parent / "counts.npz"), period=180.0, **TINY
    )
    assert results_of(tmp_path / "again") == results_of(folder.directory)


def test_a_csv_is_decoded_as_the_npz_is(folder, tmp_path, recording):
    path = saved_csv(tmp_path / "counts.csv", recording[0], np.round(recording[1], 4))
    other = carry_out("ppc", tmp_path / "run", data=str(path), period=180.0, **TINY)
    first, second = (
        np.array([float(row["any_gain_mean"]) for row in rows_of(one)]) for one in (folder, other)
    )
    gap = first - second
    assert np.abs(gap - 180 * np.round(gap / 180)).max() < 0.5


def test_the_report_has_tuning_error_calibration_and_sums(folder):
    assert {path.stem for path in (folder.directory / "figures").iterdir()} == {
        "tuning",
        "error",
        "calibration",
    }
    assert "two halves of neurons" in (folder.directory / "tables" / "sums.csv").read_text()
    assert {claim.name for claim in folder.claims()} == {
        "calibrated-variance", "calibrated-regions", "beats-population-vector", "beats-linear-regression",
        "sum-of-trials", "sum-of-neurons",
    }  # fmt: skip


def test_on_counts_that_say_nothing_claims_of_the_posterior_fail(tmp_path, recording):
    shuffled = np.random.default_rng(0).permutation(recording[1])
    path = saved_npz(tmp_path / "counts.npz", recording[0], shuffled)
    claims = carry_out("ppc", tmp_path / "run", data=str(path), period=180.0, **TINY).claims()
    with open(tmp_path / "run" / "tables" / "decoders.csv", encoding="utf-8") as stream:
        bits = [float(row["bits a trial"]) for row in csv.DictReader(stream)]
    assert max(bits) < 0.1
    assert len(claims) == 6


def test_noise_that_all_neurons_see_makes_the_halves_sum_overconfident(tmp_path):
    settings = {**TINY, "trials": 600, "neurons": 60, "folds": 2, "bins": 4}
    alone, shared = (
        {c.name: c for c in carry_out("ppc", tmp_path / name, jitter=jitter, **settings).claims()}
        for name, jitter in (("alone", 0.0), ("shared", 15.0))
    )
    assert shared["sum-of-neurons"].measured < 0.75 * alone["sum-of-neurons"].measured
    assert not shared["sum-of-neurons"].holds


def test_stimuli_on_a_line_and_a_short_list_of_them_work_too(tmp_path):
    generator = np.random.default_rng(0)
    for name, stimuli in (
        ("line", generator.uniform(-5, 5, 200)),
        ("list", generator.integers(0, 5, 200) * 1.0),
    ):
        rates = 3 * np.exp(-((stimuli[:, None] - np.linspace(-6, 6, 13)) ** 2) / 4) + 0.1
        path = saved_npz(tmp_path / f"{name}.npz", generator.poisson(rates), stimuli)
        folder = carry_out("ppc", tmp_path / name, data=str(path), **{**TINY, "folds": 2})
        error = [float(row["poisson_tuning_mean"]) - float(row["stimulus"]) for row in rows_of(folder)]
        assert np.std(error) < 1.2, name


# what is refused


def checked_and_loaded(config):
    ppc.check(config)
    return ppc.load(config)


def refused(tmp_path, name, arrays=None, text=None, **changes):
    path = tmp_path / name
    if arrays is not None:
        np.savez(path, **arrays)
    if text is not None:
        path.write_text(text)
    config = dataclasses.replace(load_experiment("ppc").PRESETS["quick"], data=str(path), **changes)
    with pytest.raises(ConfigError) as caught:
        checked_and_loaded(config)
    message = str(caught.value)
    assert "\n" not in message
    return message


COUNTS = np.arange(160).reshape(80, 2) % 7
STIMULI = np.linspace(0, 1, 80)


def test_a_missing_file_and_a_wrong_suffix_are_refused(tmp_path):
    assert "no file" in refused(tmp_path, "absent.npz")
    assert ".mat" in refused(tmp_path, "counts.mat", text="x")


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"counts": COUNTS}, "stimul"),
        ({"stimulus": STIMULI}, "counts"),
        ({"counts": -COUNTS, "stimulus": STIMULI}, "negative|below 0|≥ 0|at least 0"),
        ({"counts": COUNTS + 0.5, "stimulus": STIMULI}, "whole|integer"),
        ({"counts": np.where(COUNTS == 3, np.nan, COUNTS), "stimulus": STIMULI}, "nan|NaN|finite|missing"),
        ({"counts": COUNTS, "stimulus": np.where(STIMULI > 0.9, np.nan, STIMULI)}, "nan|NaN|finite|missing"),
        ({"counts": COUNTS, "stimulus": STIMULI[:70]}, "70"),
        ({"counts": COUNTS[:, 0], "stimulus": STIMULI}, "shape|trials"),
        ({"counts": COUNTS[:20], "stimulus": STIMULI[:20]}, "at least 60"),
        ({"counts": COUNTS, "stimulus": np.ones(80)}, "constant"),
        ({"counts": COUNTS * [1, 0], "stimulus": STIMULI}, "fewer than 2 neurons"),
        ({"counts": COUNTS, "stimulus": np.stack([STIMULI, STIMULI], 1)}, "one number|shape"),
    ],
)  # fmt: skip
def test_a_recording_that_is_none_is_refused_in_one_line(tmp_path, arrays, said):
    import re

    assert re.search(said, refused(tmp_path, "counts.npz", arrays=arrays))


def test_a_csv_without_the_stimulus_with_text_or_ragged_rows_is_refused(tmp_path):
    good = "\n".join(f"{s},{a},{b}" for s, (a, b) in zip(STIMULI, COUNTS))
    message = refused(tmp_path, "a.csv", text=f"angle,n1,n2\n{good}\n")
    assert "it has angle, n1, n2" in message
    assert "call the stimulus's column 'stimulus'" in message
    assert "'abc' in trial 81" in refused(tmp_path, "b.csv", text=f"stimulus,n1,n2\n{good}\n0.5,abc,1\n")
    assert "trial 81 has 2 cells" in refused(tmp_path, "c.csv", text=f"stimulus,n1,n2\n{good}\n0.5,1\n")
    assert "no rows" in refused(tmp_path, "d.csv", text="stimulus,n1,n2\n")
    assert "'n1' in trial 81 is missing" in refused(
        tmp_path, "e.csv", text=f"stimulus,n1,n2\n{good}\n0.5,,1\n"
    )


def test_a_file_that_is_no_archive_is_refused(tmp_path):
    assert "as an .npz archive" in refused(tmp_path, "counts.npz", text="no archive")


def test_the_command_line_says_it_in_one_line_and_exits_2(tmp_path, capsys):
    assert (
        main(["run", "ppc", "--data", str(tmp_path / "absent.npz"), "--run-dir", str(tmp_path / "run")]) == 2
    )
    assert len(capsys.readouterr().err.strip().splitlines()) == 1


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"period": -1.0}, "period"),
        ({"period": float("nan")}, "period"),
        ({"folds": 1}, "at least 2"),
        ({"points": 8}, "at least 32"),
        ({"bins": 2}, "4 are needed"),
        ({"trials": 10}, "at least 60"),
        ({"neurons": 2}, "4 neurons"),
        ({"jitter": -1.0}, "jitter"),
    ],
)
def test_settings_that_cannot_work_are_refused(changes, said):
    with pytest.raises(ConfigError, match=said):
        ppc.check(dataclasses.replace(load_experiment("ppc").PRESETS["quick"], **changes))


# the parts


def test_the_axis_knows_circles_lines_and_lists():
    values = np.random.default_rng(0).uniform(0, 360, 500)
    circle = recordings.Axis.of(values, 360.0, 90)
    assert (len(circle.grid), circle.listed) == (90, False)
    assert circle.difference(350.0, 10.0) == pytest.approx(-20.0)
    assert circle.cells(np.array([359.9, 0.1, 2.1])).tolist() == [0, 0, 1]
    mass = np.zeros((1, 90))
    mass[0, [0, 89]] = 0.5
    assert circle.mean(mass)[0] == pytest.approx(358.0)
    assert circle.variance(mass, circle.mean(mass))[0] == pytest.approx(4.0)
    listed = recordings.Axis.of(np.repeat([0.0, 45.0, 90.0], 30), 180.0, 90)
    assert listed.listed
    assert listed.cells(np.array([44.0, 100.0])).tolist() == [1, 2]
    line = recordings.Axis.of(values, 0.0, 50)
    assert (line.grid[0], line.grid[-1]) == (values.min(), values.max())


def test_simulated_counts_have_the_fano_factor_and_the_gain_that_they_are_said_to_have():
    counts, stimuli = recordings.simulated(40_000, 6, 0)
    axis = recordings.Axis.of(stimuli, 180.0, 180)
    cells = axis.cells(stimuli)
    group = np.bincount(cells, minlength=180)[:, None]
    mean, square = (
        np.stack([np.bincount(cells, weights=x) for x in part.T], 1) / group for part in (counts, counts**2)
    )
    variance = square - mean**2
    # Var = F μ + SHARED² μ² within a cell, but for the small change of μ over it.
    expected = recordings.FANO * mean + recordings.SHARED**2 * mean**2
    assert (variance.sum() / expected.sum()) == pytest.approx(1.0, abs=0.04)


def test_smoothed_tuning_finds_the_curve_and_a_width_that_falls_with_the_trials():
    counts, stimuli = recordings.simulated(4_000, 12, 0)
    axis = recordings.Axis.of(stimuli, 180.0, 180)
    few, many = (simple.smooth_tuning(counts[:n], axis.cells(stimuli[:n]), axis) for n in (150, 4_000))
    assert few[2] > many[2]
    np.testing.assert_allclose(many[0].mean(0), counts.mean(0), rtol=0.05)
    assert many[1].sum() == pytest.approx(1.0)


def test_regression_leaves_one_out_exactly():
    generator = np.random.default_rng(0)
    counts = generator.poisson(3.0, (70, 5)).astype(float)
    stimuli = counts @ [1.0, -0.5, 0.2, 0, 0] + generator.normal(size=70)
    axis = recordings.Axis.of(stimuli, 0.0, 64)
    fitted = simple.LinearRegression(axis).fit(counts, stimuli)
    left = []
    for k in range(70):
        kept = np.arange(70) != k
        design = np.column_stack([np.ones(69), counts[kept]])
        weights = np.linalg.lstsq(design, stimuli[kept], rcond=None)[0]
        left.append(weights[0] + counts[k] @ weights[1:] - stimuli[k])
    assert fitted.spread == pytest.approx(np.sqrt(np.mean(np.square(left))), rel=0.03)


def test_a_right_posterior_is_calibrated_and_a_narrow_one_is_not():
    generator = np.random.default_rng(0)
    axis = recordings.Axis.of(generator.uniform(0, 1, 100), 1.0, 400)
    center = generator.uniform(0, 1, 6_000)
    stimuli = (center + 0.05 * generator.normal(size=6_000)) % 1
    prior = np.full(400, 1 / 400)
    for width, value in ((0.05, 1.0), (0.025, 0.25)):
        mass = np.exp(-0.5 * (axis.difference(axis.grid, center[:, None]) / width) ** 2)
        decoded = measures.measured(mass / mass.sum(1, keepdims=True), stimuli, prior, axis, 0)
        assert measures.calibration(decoded)[0] == pytest.approx(value, rel=0.06)
        inside = (decoded.rank <= 0.95).mean()
        assert inside == pytest.approx(0.95 if value == 1 else 0.673, abs=0.015)
        low, high = measures.regions(decoded, axis)
        held = axis.difference(low, decoded.mean) <= axis.difference(stimuli, decoded.mean)
        held &= axis.difference(stimuli, decoded.mean) <= axis.difference(high, decoded.mean)
        assert held.mean() == pytest.approx(inside, abs=0.02)


def test_independent_halves_follow_the_formula_and_dependent_ones_do_not():
    generator = np.random.default_rng(0)
    axis = recordings.Axis.of(generator.uniform(-1, 1, 100), 0.0, 101)
    stimuli = generator.uniform(-0.5, 0.5, 8_000)

    def one(error, deviation):
        size = len(error)
        return measures.Decoded(
            np.empty((size, 0)),
            stimuli + error,
            np.full(size, deviation),
            error,
            np.zeros(size),
            np.zeros(size),
        )

    x, y, z = 0.1 * generator.normal(size=(3, 8_000))
    found = measures.halves(one(x, 0.1), one(y, 0.1), one((x + y) / 2, 0.1 / 2**0.5), stimuli, axis)
    assert found["real"][1] < 1 < found["real"][2]
    assert found["claimed"][0] == pytest.approx(1.0, abs=0.05)
    assert abs(found["correlation"][0]) < 0.03
    found = measures.halves(one(x + z, 0.14), one(y + z, 0.14), one((x + y) / 2 + z, 0.1), stimuli, axis)
    assert found["real"][1] > 1.3
    assert found["correlation"][0] == pytest.approx(0.5, abs=0.03)


def test_neighbours_in_stimulus_are_paired_once_each():
    axis = recordings.Axis.of(np.arange(7.0), 0.0, 64)
    first, second = measures.pairs(np.array([3.0, 1.0, 2.0, 6.0, 5.0, 4.0, 9.0]), axis)
    assert list(zip(first.tolist(), second.tolist())) == [(1, 2), (0, 5), (4, 3)]
