"""td in small: a user's own file end to end, its parts against independent computations, and what is refused."""

from __future__ import annotations

import csv
import dataclasses
import math

import numpy as np
import pytest
import torch

from fingerpost.errors import ConfigError
from fingerpost.experiments import _td_own_fits as fits
from fingerpost.experiments import _td_own_pictures as pictures
from fingerpost.experiments import _td_own_results as results
from fingerpost.experiments import load_experiment
from fingerpost.experiments import td as module
from fingerpost.experiments._td_weather import FEATURES, spells
from fingerpost.td import OutcomeSequence, td_updates

from experiments.carrying import carry_out, results_of  # isort: skip

TINY = {"folds": 3, "lambdas": (0.0, 0.4, 1.0), "repeats": 3}
CLAIMS = {
    "limit-1-is-regression", "better-than-the-mean", "one-presentation", "as-good-as-regression", "few-sequences-least-squares",
    "few-sequences-ridge", "calibrated",
}  # fmt: skip


def table_text(count=18, separator=","):
    """Sequences of two useful features, with the outcome on the last row alone."""
    generator = np.random.default_rng(0)
    lines = [separator.join(("day", "who", "heat", "damp", "yield"))]
    for number in range(count):
        level = generator.normal()
        for day in range(length := 1 + number % 4):
            level += 0.3 * generator.normal()
            value = f"{level:.3f}" if day == length - 1 else ""
            lines.append(
                separator.join((str(day), f"field {number}", f"{level:.3f}", f"{level**2:.3f}", value))
            )
    return "\n".join(lines) + "\n"


@pytest.fixture
def own_file(tmp_path):
    path = tmp_path / "fields.csv"
    path.write_text(table_text())
    return {"data": str(path), "sequence": "who", "outcome": "yield", "features": "heat, damp"}


def test_a_users_csv_gives_predictions_pictures_and_claims_and_repeats_to_the_bit(tmp_path, own_file):
    runs = [carry_out("td", tmp_path / name, **own_file, **TINY) for name in ("first", "second")]
    assert results_of(tmp_path / "first") == results_of(tmp_path / "second")
    claims = {claim.name: claim for claim in runs[0].claims()}
    assert set(claims) == CLAIMS
    assert claims["limit-1-is-regression"].holds
    assert claims["better-than-the-mean"].holds, claims["better-than-the-mean"]
    with (tmp_path / "first" / "predictions.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    with open(own_file["data"], encoding="utf-8") as file:
        given = list(csv.DictReader(file))
    assert [row["who"] for row in rows] == [row["who"] for row in given]
    assert all(float(row["yield"]) == float(g["yield"]) for row, g in zip(rows, given) if g["yield"])
    assert all(
        math.isfinite(float(row[name]))
        for row in rows
        for name in ("td", "td_once", "widrow_hoff", "regression")
    )
    assert {row["fold"] for row in rows} == {"1", "2", "3"}
    assert {len({row["fold"] for row in rows if row["who"] == who}) for who in {r["who"] for r in rows}} == {
        1
    }


def test_without_a_file_it_learns_the_made_up_weather(tmp_path):
    folder = carry_out("td", tmp_path / "run", spells=60, **TINY)
    claims = {claim.name: claim for claim in folder.claims()}
    assert set(claims) == CLAIMS
    for name in ("limit-1-is-regression", "better-than-the-mean"):
        assert claims[name].holds, claims[name]


def test_the_weather_rains_as_often_as_its_place_says():
    table = spells(4_000, 0, noise=0.0)
    assert table.features == FEATURES
    first = torch.stack([row.observations[0] for row in table])
    place = (1033 - first[:, 0]) / 4
    rain = torch.stack([row.outcome for row in table])
    for k in range(1, 10):
        here = rain[place.round() == k]
        assert float(here.mean()) == pytest.approx(k / 10, abs=4 * math.sqrt(0.25 / len(here)))
    one = torch.cat([row.observations for row in spells(20, 3)])
    assert torch.equal(one, torch.cat([row.observations for row in spells(20, 3)]))


# parts


def scaled_weather(count, seed=0):
    sequences = spells(count, seed).sequences
    return fits.Scaled.of(sequences)(sequences)


def test_scaling_is_that_of_the_training_rows_and_a_constant_feature_is_of_no_effect():
    x = torch.tensor([[1.0, 5.0], [3.0, 5.0]], dtype=torch.float64)
    scaled = fits.Scaled.of([OutcomeSequence(x, torch.tensor(1.0))])
    (row,) = scaled([OutcomeSequence(torch.tensor([[4.0, 9.0]], dtype=torch.float64), torch.tensor(1.0))])
    assert row.observations.tolist() == [[2.0, 0.0, 1.0]]


def test_errors_are_means_over_each_sequences_rows_whatever_the_shape_of_the_weights():
    sequences = scaled_weather(5)
    w = torch.randn(2, 3, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = fits.errors(sequences, w)
    assert found.shape == (5, 2, 3)
    row = sequences[3]
    assert float(found[3, 1, 2]) == pytest.approx(
        float((row.outcome - row.observations @ w[1, 2]).square().mean())
    )
    assert torch.isinf(fits.errors(sequences, torch.full((1, 5), torch.inf, dtype=torch.float64))).all()


def test_one_presentation_is_the_step_by_step_rule_at_the_chosen_step():
    train, lambdas = scaled_weather(12), (0.0, 0.5, 1.0)
    fitted = fits.fit(train, lambdas, seed=0)
    for lam, weights, alpha in (
        (fitted.chosen["td_once"], fitted.weights["td_once"], fitted.chosen["alpha"]),
        (1.0, fitted.weights["widrow_hoff"], fitted.chosen["widrow_hoff"]),
    ):
        w = torch.zeros(5, dtype=torch.float64)
        for x, z, _ in train:
            w = w + td_updates(x, z, w, lam, alpha=alpha).sum(0)
        torch.testing.assert_close(weights, w, rtol=1e-10, atol=1e-12)


def test_ridge_regression_is_the_minimum_of_its_penalised_error():
    train, ridge = scaled_weather(12), 0.1
    w = fits.least_squares(train, ridge).requires_grad_()
    x = torch.cat([row.observations for row in train])
    z = torch.cat([row.outcome.expand(len(row.observations)) for row in train])
    (slope,) = torch.autograd.grad((x @ w - z).square().mean() + ridge * w[:-1].square().sum(), w)
    assert float(slope.abs().max()) < 1e-12
    torch.testing.assert_close(
        fits.least_squares(train, 1e-12), fits.least_squares(train, 0.0), rtol=1e-6, atol=1e-8
    )


def test_a_held_out_sequence_has_no_part_in_what_predicts_it():
    sequences = spells(15, 0).sequences
    fold = fits.parts(15, 3, seed=0)
    assert sorted(torch.bincount(fold).tolist()) == [5, 5, 5]
    before = fits.cross_validate(sequences, fold, (0.0, 1.0), 0)
    sequences[4] = sequences[4]._replace(outcome=1 - sequences[4].outcome)
    after = fits.cross_validate(sequences, fold, (0.0, 1.0), 0)
    for name in fits.METHODS:
        same = [a == b for a, b in zip(before["predictions"][name], after["predictions"][name])]
        assert all(same[i] for i in range(15) if fold[i] == fold[4])
        assert not all(same)


def test_calibration_is_the_regression_of_outcomes_with_each_sequence_counted_once():
    generator = np.random.default_rng(0)
    covered, slopes = 0, []
    for _ in range(200):
        truth = generator.uniform(size=60)
        outcomes = (generator.uniform(size=60) < truth).astype(float).tolist()
        found = results.calibration([[p] * 5 for p in truth], outcomes)
        once = results.calibration([[p] for p in truth], outcomes)
        assert found["slope"] == pytest.approx(once["slope"])
        assert found["interval"] == pytest.approx(once["interval"])
        covered += found["interval"][0] <= 1 <= found["interval"][1]
        slopes.append(found["slope"])
    assert np.mean(slopes) == pytest.approx(1, abs=0.05)
    assert 0.9 <= covered / 200 <= 0.99
    halved = results.calibration([[p / 2] for p in truth], outcomes)
    assert halved["slope"] == pytest.approx(2 * once["slope"])
    assert sum(row[-1] for row in found["bins"]) == 300


def test_predictions_that_never_vary_have_no_calibration():
    found = results.calibration([[0.5, 0.5], [0.5]], [0.0, 1.0])
    assert math.isnan(found["slope"])
    assert found["bins"] == []


def test_examples_are_of_high_and_of_low_outcomes():
    chosen = pictures.examples([0.0] * 20 + [1.0] * 5, list(range(1, 26)))
    assert len(set(chosen)) == 6
    assert sum(k >= 20 for k in chosen) == 3


def test_training_sizes_leave_what_is_held_out():
    assert fits.sizes_of(100) == [5, 10, 20, 40]
    assert fits.sizes_of(10) == [5]
    assert max(fits.sizes_of(10**6)) == 1280


# refusals


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"data": "absent.csv"}, "there is no file 'absent.csv'"),
        ({"data": "table.xlsx"}, r"ends in '\.xlsx'; --data takes a table: \.csv"),
        ({"folds": 1}, "folds is 1"),
        ({"lambdas": (0.0, 0.5)}, "from 0 .* to 1"),
        ({"lambdas": (0.0, 0.5, 0.5, 1.0)}, "in order"),
        ({"lambdas": ()}, "in order"),
        ({"repeats": 1}, "at least 2 orders"),
        ({"spells": 8}, "at least 10 spells"),
        ({"noise": math.nan}, "noise is 0 or more"),
    ],
)
def test_settings_that_cannot_work_are_refused_before_torch_is_needed(changes, said):
    with pytest.raises(ConfigError, match=said):
        module.check(dataclasses.replace(load_experiment("td").PRESETS["quick"], **changes))


HEAD = "sequence,heat,outcome\n"
MANY = "".join(f"s{k},{k},\ns{k},{k + 1},{k % 3}\n" for k in range(20))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "holds no rows"),
        (HEAD, "holds no rows"),
        ("seq,heat,outcome\n" + MANY, "has no column 'sequence'; it has seq, heat, outcome.*--sequence"),
        ("sequence,heat,result\n" + MANY, "has no column 'outcome'.*--outcome"),
        ("sequence,outcome\na,1\nb,2\n", "no column of features"),
        (HEAD + MANY + "x,warm,1\n", "column 'heat' holds 'warm' in row 41.*--features"),
        (HEAD + MANY + "x,nan,1\n", "column 'heat' has no value in row 41"),
        (HEAD + MANY + "x,inf,1\n", "column 'heat' has inf in row 41"),
        (HEAD + MANY + "x,,1\n", "column 'heat' has no value in row 41"),
        (HEAD + MANY + "x,2,\n", "sequence 'x' has no outcome"),
        (HEAD + MANY + "x,2,high\n", "column 'outcome' holds 'high'"),
        (HEAD + MANY + "x,2,1\nx,3,2\n", "two outcomes"),
        (HEAD + MANY + "x,2\n", "2 cells"),
        (HEAD + MANY + ",2,1\n", "empty in row 41"),
        ("sequence,heat,heat,outcome\na,1,2,3\n", "two columns"),
        (HEAD + "".join(f"s{k},{k},1\n" for k in range(20)), "every sequence has the outcome 1"),
        (HEAD + "".join(f"s{k},7,{k}\n" for k in range(20)), "every feature is constant"),
        (HEAD + "".join(f"s{k},{k},{k % 2}\n" for k in range(9)), "has 9 sequences: at least 10"),
        (HEAD + "a,0,1\n", "has 1 sequence: at least 10"),
    ],
)
def test_a_file_that_cannot_be_learnt_from_is_refused_in_one_line(tmp_path, text, said):
    path = tmp_path / "mine.csv"
    path.write_text(text)
    config = dataclasses.replace(load_experiment("td").PRESETS["quick"], data=str(path))
    module.check(config)
    with pytest.raises(ConfigError, match=said) as caught:
        module.load(config)
    assert "\n" not in str(caught.value)


def test_bytes_that_are_no_text_are_refused(tmp_path):
    path = tmp_path / "mine.csv"
    path.write_bytes(b"\xff\xfe\x00\x01")
    with pytest.raises(ConfigError, match="UTF-8"):
        module.load(dataclasses.replace(load_experiment("td").PRESETS["quick"], data=str(path)))


def test_more_folds_than_half_the_sequences_are_refused(tmp_path, own_file):
    config = dataclasses.replace(load_experiment("td").PRESETS["quick"], **own_file, folds=10)
    with pytest.raises(ConfigError, match=r"18 sequences: at least 20 are needed for 10 folds.*--folds"):
        module.load(config)


def test_tabs_and_semicolons_are_read_too(tmp_path):
    for separator, name in (("\t", "t.tsv"), (";", "t.csv")):
        path = tmp_path / name
        path.write_text(table_text(separator=separator))
        config = dataclasses.replace(
            load_experiment("td").PRESETS["quick"],
            data=str(path),
            sequence="who",
            outcome="yield",
            features="damp",
        )
        assert len(module.load(config)) == 18
