from __future__ import annotations

import math
import random

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fingerpost.errors import InvalidTypeError, InvalidValueError, NumericalError, RunError
from fingerpost.lab import Run, RunFolder, derive_seed, isolated_rng, minibatches, train


def quadratic(dtype=torch.float64):
    """A parameter w with loss ½|w − 1|², whose gradient is w − 1."""
    model = torch.nn.ParameterDict({"w": torch.nn.Parameter(torch.zeros(3, dtype=dtype))})

    def step(model, batch):
        model["w"].grad = model["w"].detach() - 1
        return {"loss": (model["w"] - 1).square().sum() / 2}

    return model, step


def fit(model, step, optimizer=None, **options):
    optimizer = optimizer or torch.optim.SGD(model.parameters(), lr=0.1)
    return train(model, optimizer, step, lambda k: k, **{"steps": 5, "seed": 0, **options})


@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 5))
def test_minibatches_visit_every_sample_once_an_epoch(n, size, seed):
    size = min(n, size)
    batch, count = minibatches(n, size, seed), math.ceil(n / size)
    for epoch in range(2):
        seen = torch.cat([batch(epoch * count + k) for k in range(count)])
        assert sorted(seen.tolist()) == list(range(n))


def test_minibatches_depend_on_seed_and_step_alone():
    asked = minibatches(20, 6, seed=1)
    backwards = [asked(k) for k in reversed(range(12))][::-1]
    torch.rand(5)
    again = minibatches(20, 6, seed=1)
    assert all(torch.equal(again(k), batch) for k, batch in enumerate(backwards))
    assert not torch.equal(minibatches(20, 6, seed=2)(0), backwards[0])
    assert not torch.equal(torch.cat(backwards[:4]), torch.cat(backwards[4:8]))


@pytest.mark.parametrize("size", [0, 21])
def test_minibatches_refuse_a_wrong_size(size):
    with pytest.raises(InvalidValueError, match="between 1 and the 20"):
        minibatches(20, size, 0)


def test_the_signal_in_grad_is_descended_along():
    model, step = quadratic()
    result = fit(model, step)
    assert torch.allclose(model["w"], torch.full((3,), 1 - 0.9**5, dtype=torch.float64))
    losses = [row["loss"] for row in result.history]
    assert losses == pytest.approx([1.5 * 0.81**k for k in range(5)])
    assert (result.steps, result.stopped, result.best, result.averaged) == (5, "steps", None, None)


@pytest.mark.parametrize("name", ["SGD", "Adam", "AdamW", "RMSprop", "Adagrad", "NAdam", "Rprop"])
def test_every_optimiser_resumes_to_the_bit(tmp_path, name):
    def run(directory, stop=None):
        model, step = quadratic()
        optimizer = getattr(torch.optim, name)(model.parameters(), lr=0.01)

        def stopping(model, batch):
            if batch == stop:
                raise KeyboardInterrupt
            return step(model, batch)

        run = Run.open(directory, experiment="x", config={})
        try:
            fit(model, stopping, optimizer, run=run, checkpoint_seconds=0)
        finally:
            run.close(None)
        return model["w"].detach()

    whole = run(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "stopped", stop=3)
    assert torch.equal(run(tmp_path / "stopped"), whole)
    paths = [tmp_path / kind / "metrics.jsonl" for kind in ("whole", "stopped")]
    assert paths[0].read_bytes() == paths[1].read_bytes()


def test_a_finished_stage_is_not_trained_again_and_gives_the_same_result(tmp_path):
    results = []
    for _ in range(2):
        model, step = quadratic()
        run = Run.open(tmp_path, experiment="x", config={})
        options = {
            "evaluate": lambda m: {"error": m["w"].norm()},
            "monitor": "error",
            "evaluate_every": 2,
            "ema": 0.5,
        }
        results.append(fit(model, step, run=run, **options))
        run.close(None)
    first, second = results
    assert (first.history, first.steps, first.stopped, first.best) == (
        second.history,
        second.steps,
        second.stopped,
        second.best,
    )
    assert torch.equal(first.averaged["w"], second.averaged["w"])
    assert [row["step"] for row in RunFolder(tmp_path).metrics()] == [1, 2, 3, 4, 5]


def test_clipping_scales_the_gradient_to_the_norm():
    model, step = quadratic()
    fit(model, step, steps=1, clip_norm=0.5)
    assert model["w"].norm().item() == pytest.approx(0.05, rel=1e-5)


def test_the_schedule_is_stepped_once_per_update():
    model, step = quadratic()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    fit(model, step, optimizer, scheduler=torch.optim.lr_scheduler.StepLR(optimizer, 2))
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.001)


def test_a_plateau_schedule_hears_the_evaluations():
    model, step = quadratic()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=0)
    fit(model, step, optimizer, scheduler=plateau, evaluate=lambda m: {"loss": 1.0}, evaluate_every=1)
    assert optimizer.param_groups[0]["lr"] < 0.1


def test_the_average_is_the_moving_average_and_evaluation_sees_it():
    model, step = quadratic()
    seen = []
    result = fit(model, step, ema=0.5, evaluate=lambda m: seen.append(m["w"].clone()) or {}, evaluate_every=5)
    expected, weight = 0.0, 0.0
    for _ in range(5):
        weight = 0.9 * weight + 0.1
        expected = 0.5 * expected + 0.5 * weight
    assert torch.allclose(seen[0], torch.full((3,), expected, dtype=torch.float64))
    assert torch.equal(result.averaged["w"], seen[0])
    assert model["w"][0].item() == pytest.approx(weight)


def test_patience_stops_and_the_best_is_told():
    model, step = quadratic()
    scores = iter([3.0, 1.0, 2.0, 2.0, 0.0])
    result = fit(model, step, evaluate=lambda m: {"loss": next(scores)}, evaluate_every=1, patience=2)
    assert (result.stopped, result.steps) == ("patience", 4)
    assert (result.best["step"], result.best["loss"]) == (2, 1.0)


def test_the_best_can_be_the_largest():
    model, step = quadratic()
    scores = iter([0.1, 0.9, 0.5, 0.4, 0.3])
    evaluate = {"evaluate": lambda m: {"accuracy": next(scores)}, "monitor": "accuracy", "maximize": True}
    assert fit(model, step, evaluate_every=1, **evaluate).best["accuracy"] == 0.9


def test_a_diverged_loss_is_a_status_or_an_error():
    model, _ = quadratic()

    def step(model, batch):
        model["w"].grad = torch.ones(3, dtype=torch.float64)
        return {"loss": math.nan if batch == 2 else 1.0}

    result = fit(model, step)
    assert (result.stopped, result.steps) == ("diverged", 3)
    with pytest.raises(NumericalError, match="the loss is nan at step 3"):
        fit(model, step, throw=True)


def test_rows_are_logged_as_often_as_asked():
    model, step = quadratic()
    rows = fit(model, step, steps=7, log_every=3, evaluate=lambda m: {"e": 1.0}, evaluate_every=4).history
    assert [row["step"] for row in rows] == [3, 4, 6, 7]


def test_a_step_without_a_signal_is_refused():
    model, _ = quadratic()
    with pytest.raises(InvalidValueError, match=r"\.grad of every parameter empty"):
        fit(model, lambda model, batch: {})


def test_lbfgs_is_refused_with_the_reason():
    model, step = quadratic()
    with pytest.raises(InvalidTypeError, match="closure"):
        fit(model, step, torch.optim.LBFGS(model.parameters()))


@pytest.mark.parametrize(
    "options",
    [{"steps": 0}, {"ema": 1.0}, {"ema": 0.0}, {"clip_norm": 0.0}, {"patience": 0}, {"log_every": 0}],
)
def test_a_number_out_of_range_is_refused(options):
    model, step = quadratic()
    with pytest.raises(InvalidValueError, match=next(iter(options))):
        fit(model, step, **options)


def test_patience_without_the_monitored_number_is_refused():
    model, step = quadratic()
    with pytest.raises(InvalidValueError, match="patience needs 'loss'"):
        fit(model, step, evaluate=lambda m: {"other": 1.0}, patience=1)


def test_another_configuration_s_checkpoint_in_the_folder_is_refused(tmp_path):
    for seed, name in enumerate("ab"):
        run = Run.open(tmp_path / name, experiment="x", config={"seed": seed})
        model, step = quadratic()
        if name == "b":
            (tmp_path / "b" / "checkpoint").mkdir()
            (tmp_path / "a" / "checkpoint" / "train").rename(tmp_path / "b" / "checkpoint" / "train")
            with pytest.raises(RunError, match="another experiment or configuration"):
                fit(model, step, run=run)
        else:
            fit(model, step, run=run)
        run.close(None)


def generator_states():
    return random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()


def test_training_leaves_the_global_generators_as_they_were():
    def draw(model, batch):
        model["w"].grad = torch.randn(3, dtype=torch.float64)
        drawn = np.random.rand()
        return {"a": random.random(), "b": drawn, "c": torch.rand(())}

    before = generator_states()
    first = fit(quadratic()[0], draw).history
    assert generator_states() == before
    assert fit(quadratic()[0], draw).history == first
    assert fit(quadratic()[0], draw, seed=1).history != first


def test_evaluating_does_not_change_the_training_stream():
    def draw(model, batch):
        model["w"].grad = torch.randn(3, dtype=torch.float64)
        return {"c": torch.rand(())}

    quiet = fit(quadratic()[0], draw).history
    noisy = fit(quadratic()[0], draw, evaluate=lambda m: {"e": torch.rand(())}, evaluate_every=1).history
    assert [row["c"] for row in noisy] == [row["c"] for row in quiet]


def test_isolated_streams_differ_by_name_and_survive_errors():
    state = torch.get_rng_state()
    with isolated_rng(0, "a"):
        first = torch.rand(3)
    with isolated_rng(0, "b"):
        assert not torch.equal(torch.rand(3), first)
    with pytest.raises(ZeroDivisionError), isolated_rng(0, "b"):
        torch.rand(int(1 / 0))
    assert torch.equal(torch.get_rng_state(), state)
    assert derive_seed(0, "a") != derive_seed("0", "a")
