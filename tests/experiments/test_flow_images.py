"""flow-images: its measures on pictures whose figures are known, its claims where they must fail, the whole in small."""

import dataclasses
import functools
from pathlib import Path

import numpy as np
import pytest
import torch

from fingerpost.errors import ConfigError
from fingerpost.experiments import _flow_images as images
from fingerpost.experiments import flow_images, load_experiment
from fingerpost.flow import MarginalField, sample
from fingerpost.lab import RunFolder, run_experiment

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data" / "mnist63k.npz"
TINY = dataclasses.replace(
    flow_images.PRESETS["quick"],
    examples=80, tests=24, channels=8, updates=6, batch_size=16, guidance=(2.0,), solver_steps=2, draws=2,
    classifier_updates=10,
)  # fmt: skip


@functools.lru_cache
def digits():
    return images.load("", 20_000, 360, 0)


def test_the_split_is_the_seeds_alone_and_nothing_is_in_both_parts():
    ours, again, other = digits(), images.load("", 20_000, 360, 0), images.load("", 20_000, 360, 1)
    assert ours.train_x.shape == (1437, 1, 8, 8)
    assert (float(ours.train_x.min()), float(ours.train_x.max())) == (-1.0, 1.0)
    assert torch.equal(ours.test_x, again.test_x)
    assert not torch.equal(ours.test_x, other.test_x)
    assert float(images.nearest(ours.test_x, ours.train_x).min()) > 0


def test_the_classifier_reads_held_out_digits():
    pictures = digits().to("cpu", "float32")
    judge = images.classifier(pictures, 120, 0)
    assert images.accuracy(judge, pictures.test_x, pictures.test_y) > 0.9
    assert images.accuracy(judge, pictures.test_x, (pictures.test_y + 1) % 10) < 0.1


def test_nearest_distances_find_planted_copies():
    pictures = digits()
    x = torch.cat([pictures.train_x[5:8], pictures.train_x[:1] + 10])
    distances = images.nearest(x, pictures.train_x)
    torch.testing.assert_close(distances[:3], torch.zeros(3, dtype=torch.float64), atol=1e-6, rtol=0)
    assert distances[3] > 50


def test_spread_is_the_variance_within_classes_and_sees_no_difference_between_them():
    labels = torch.tensor([0, 0, 1, 1])
    x = torch.tensor([0.0, 2.0, 100.0, 104.0], dtype=torch.float64).view(4, 1, 1, 1)
    assert images.spread(x, labels) == pytest.approx((1 + 1 + 4 + 4) / 4)


def test_training_pictures_of_the_same_labels_have_them():
    pictures = digits()
    chosen = images.with_labels(pictures, 0, 0)
    where = torch.cdist(chosen.flatten(1), pictures.train_x.flatten(1)).argmin(1)
    assert torch.equal(pictures.train_y[where], pictures.test_y)
    assert len(where.unique()) > 350  # without repetition, but for pictures that are alike


def test_a_class_without_training_pictures_is_refused():
    pictures = digits()
    few = pictures._replace(train_x=pictures.train_x[:1], train_y=pictures.train_y[:1])
    with pytest.raises(ConfigError, match="raise --examples"):
        images.with_labels(few, 0, 0)


def test_a_mosaic_places_pictures_row_by_row_with_gaps():
    x = torch.arange(4.0).view(4, 1, 1, 1).expand(4, 1, 2, 2) / 4
    board = images.mosaic(x, 2)
    assert board.shape == (5, 5)
    assert np.isnan(board[2]).all()
    assert np.isnan(board[:, 2]).all()
    assert (board[0, 0], board[0, 3], board[3, 0], board[4, 4]) == (0, 0.25, 0.5, 0.75)


def test_a_sheet_row_with_too_few_pictures_is_filled_with_white():
    x, labels = torch.zeros(3, 1, 2, 2), torch.tensor([0, 0, 9])
    rows = images.some_of_each(x, labels, 2)
    assert rows.mean((1, 2, 3)).tolist() == [0.0, 0.0] + [-1.0] * 16 + [0.0, -1.0]


def test_samples_in_chunks_are_those_drawn_at_once():
    def model(t, x, c):
        return -x + c.view(-1, 1, 1, 1)

    x0 = torch.randn(300, 1, 2, 2, generator=torch.Generator().manual_seed(0))
    c = torch.arange(300) % 10
    options = {"steps": 3, "method": "midpoint"}
    expected = sample(model, x0, condition=c, **options)
    torch.testing.assert_close(images.samples(model, x0, c, **options), expected)


def test_the_claims_on_copies_fail_for_a_field_that_only_knows_its_training_digits():
    pictures = digits()
    flat = pictures.train_x.flatten(1)
    field = MarginalField(flat)
    x0 = images.noise(pictures, 0, 0).flatten(1)[:64]
    copies = images.nearest(sample(field, x0, steps=30, time_range=(0.0, 1.0)), flat)
    held_out = images.nearest(pictures.test_x, flat)
    claims = {claim.name: claim for claim in flow_images.copies_claims([copies, copies], held_out)}
    assert not claims["nearest-neighbour"].holds
    assert not claims["copies"].holds
    assert claims["copies"].measured > 90
    fair = flow_images.copies_claims([held_out[:180], held_out[180:]], held_out)
    assert all(claim.holds for claim in fair)


def rows_of(plain, guided, free=0.1, spreads=(1.0, 0.6)):
    def draws(fidelity, spread):
        return [{"fidelity": fidelity + d, "spread": spread + d, "w2": 3.0} for d in (0.0, 0.002)]

    return {"0": draws(free, 1.5), "1": draws(plain, spreads[0]), "2": draws(guided, spreads[1])}


@pytest.mark.parametrize(
    ("rows", "broken"),
    [
        (rows_of(0.95, 0.99), set()),
        (rows_of(0.10, 0.10), {"fidelity", "fidelity-guided", "guidance-fidelity"}),
        (rows_of(0.95, 0.90), {"fidelity-guided", "guidance-fidelity"}),
        (rows_of(0.95, 0.99, free=0.5), {"no-class-is-chance"}),
        (rows_of(0.95, 0.99, spreads=(0.2, 0.1)), {"variety"}),
        (rows_of(0.95, 0.99, spreads=(1.0, 1.0)), {"guidance-variety"}),
    ],
)
def test_each_claim_on_fidelity_and_guidance_fails_where_it_should(rows, broken):
    claims = [*flow_images.fidelity_claims(rows, 0.98), *flow_images.guidance_claims(rows)]
    assert {claim.name for claim in claims if not claim.holds} == broken


def test_the_claims_on_steps_tell_the_order():
    def row(steps, distance):
        return {
            "steps": steps,
            "calls": steps,
            "distance": distance,
            "fidelity": 0.9,
            "spread": 1.0,
            "w2": 3.0,
        }

    rows = {
        "converged": [row(0, 0.0)],
        "euler": [row(n, 1 / n) for n in flow_images.EULER_STEPS],
        "midpoint": [row(n, 1 / n) for n in flow_images.MIDPOINT_STEPS],
    }
    held = {claim.name: claim.holds for claim in flow_images.steps_claims(rows)}
    assert held == {"order-euler": True, "order-midpoint": False, "few-steps": True}


def test_a_run_stopped_after_training_ends_as_one_that_was_not_and_trains_no_more(tmp_path, monkeypatch):
    module = load_experiment("flow-images")
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    run_experiment(module, TINY, whole, name="flow-images")
    with monkeypatch.context() as patch:
        patch.setattr(flow_images, "_sheets", _interrupted)
        with pytest.raises(KeyboardInterrupt):
            run_experiment(module, TINY, cut, name="flow-images")
    monkeypatch.setattr(flow_images.flow, "cfm_loss", _no_training(flow_images.flow.cfm_loss))
    run_experiment(module, TINY, cut, name="flow-images")
    claims = [RunFolder(path).claims() for path in (whole, cut)]
    assert len(claims[0]) == 13
    assert [c.measured for c in claims[0]] == [c.measured for c in claims[1]]
    figures = {path.stem: path.read_bytes() for path in whole.glob("figures/*.svg")}
    assert set(figures) == {"samples", "guidance-strip", "steps-strip", "guidance", "nearest", "steps"}
    assert figures == {path.stem: path.read_bytes() for path in cut.glob("figures/*.svg")}


def _interrupted(*arguments):
    raise KeyboardInterrupt


def _no_training(loss):
    def refuse(*arguments, **options):
        assert not torch.is_grad_enabled(), "the field is trained again"
        return loss(*arguments, **options)

    return refuse


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"ema": 1.0}, "between 0 and 1"),
        ({"drop": 0.0}, "between 0 and 1"),
        ({"guidance": ()}, "above 1"),
        ({"guidance": (0.5,)}, "above 1"),
        ({"draws": 1}, "at least 2"),
        ({"channels": 12}, "multiple of 8"),
        ({"updates": 0}, "updates is 0"),
        ({"data": "no/such/file.npz"}, "no file or folder"),
    ],
)
def test_settings_that_cannot_work_are_refused(changes, message):
    with pytest.raises(ConfigError, match=message):
        flow_images.check(dataclasses.replace(flow_images.PRESETS["quick"], **changes))


def test_more_held_out_pictures_than_there_are_is_refused():
    with pytest.raises(ConfigError, match="lower --tests"):
        images.load("", 100, 1795, 0)


@pytest.mark.skipif(not SHARED.exists(), reason="no MNIST file beside the checkout")
def test_pictures_of_28_pixels_are_read_and_fit_the_network():
    pictures = images.load(str(SHARED), 200, 20, 0)
    assert pictures.train_x.shape == (200, 1, 28, 28)
    assert (float(pictures.train_x.min()), float(pictures.train_x.max())) == (-1.0, 1.0)
    x = pictures.test_x[:4]
    assert flow_images.new_field(TINY, 28)(torch.tensor(0.5), x, pictures.test_y[:4]).shape == x.shape
