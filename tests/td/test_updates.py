"""TD(λ) and Widrow–Hoff on one sequence: definitions, the identity at λ = 1, traces, modules, bad input."""

from itertools import pairwise

import hypothesis
import pytest
import torch
from hypothesis import strategies as st
from torch import nn

from fingerpost.errors import InvalidTypeError, InvalidValueError, ShapeError
from fingerpost.td import td_gradients, td_updates, widrow_hoff_gradients, widrow_hoff_updates
from td.sequences import draw, lengths, returns_by_definition, seeds, td_by_definition, units, weights, widths

few = hypothesis.settings(max_examples=30, deadline=None)


@few
@hypothesis.given(lengths, widths, seeds, units, units, st.booleans(), st.booleans())
def test_updates_are_those_of_the_definition(m, d, seed, lam, gamma, rewards, online):
    sequence, w = draw(m, d, seed, rewards), weights(d)
    found = td_updates(*sequence[:2], w, lam, alpha=0.1, gamma=gamma, rewards=sequence.rewards, online=online)
    torch.testing.assert_close(
        found, td_by_definition(sequence, w, lam, 0.1, gamma, online), rtol=1e-10, atol=1e-12
    )


@few
@hypothesis.given(lengths, widths, seeds, units, st.booleans())
def test_at_lambda_one_with_kept_weights_the_sum_is_widrow_hoffs(m, d, seed, gamma, rewards):
    x, z, c = draw(m, d, seed, rewards)
    w = weights(d)
    td = td_updates(x, z, w, 1.0, alpha=0.3, gamma=gamma, rewards=c).sum(0)
    supervised = widrow_hoff_updates(x, z, w, alpha=0.3, gamma=gamma, rewards=c).sum(0)
    torch.testing.assert_close(td, supervised, rtol=1e-12, atol=1e-12)


def test_at_lambda_one_single_steps_differ_though_their_sum_does_not():
    x, z, _ = draw(5, 3)
    w = weights(3)
    assert not torch.allclose(td_updates(x, z, w, 1.0), widrow_hoff_updates(x, z, w))


def test_the_last_update_depends_on_the_outcome_and_no_other_does():
    x, _, _ = draw(5, 3)
    w = weights(3)
    for lam in (0.0, 0.5, 1.0):
        change = td_updates(x, 1.0, w, lam) - td_updates(x, 0.0, w, lam)
        assert torch.equal(change[:-1], torch.zeros(4, 3, dtype=torch.float64))
        assert change[-1].abs().sum() > 0.1


def test_online_the_identity_fails():
    x, z, _ = draw(6, 3)
    w = weights(3)
    td = td_updates(x, z, w, 1.0, alpha=0.1, online=True).sum(0)
    supervised = widrow_hoff_updates(x, z, w, alpha=0.1, online=True).sum(0)
    assert (td - supervised).norm() > 1e-3 * supervised.norm()


@pytest.mark.parametrize("online", [False, True])
def test_widrow_hoff_is_its_definition(online):
    sequence, w = draw(6, 3, rewards=True), weights(3)
    targets = returns_by_definition(sequence, 0.9)
    changes, now = [], w
    for x, target in zip(sequence.observations, targets):
        changes.append(0.1 * (target - x @ now) * x)
        now = now + changes[-1] if online else now
    found = widrow_hoff_updates(
        *sequence[:2], w, alpha=0.1, gamma=0.9, rewards=sequence.rewards, online=online
    )
    torch.testing.assert_close(found, torch.stack(changes))


@pytest.mark.parametrize("online", [False, True])
def test_replacing_traces_equal_accumulating_ones_where_no_feature_returns_and_differ_where_one_does(online):
    eye = torch.eye(4, dtype=torch.float64)
    w = weights(4)

    def both(x):
        kinds = ("accumulating", "replacing")
        return [td_updates(x, 1.0, w, 0.8, alpha=0.1, traces=kind, online=online) for kind in kinds]

    once = both(eye)
    torch.testing.assert_close(*once)
    again = both(eye[[0, 1, 0]])
    torch.testing.assert_close(again[0][:2], again[1][:2])
    trace = torch.tensor([1.0, 0.8, 0, 0], dtype=torch.float64)  # not 1 + 0.64 in the first place
    assert torch.allclose(again[1][2] / again[1][2, 0], trace)
    assert not torch.allclose(again[0][2], again[1][2])


def online_lambda_return(sequence, w, lam, alpha, gamma):
    """The forward view that true online TD(λ) stands for: at each time, all updates anew with returns cut off there."""
    x, z, c = sequence
    m = len(x)
    c = torch.zeros(m, dtype=x.dtype) if c is None else c
    history = [w]
    for horizon in range(1, m + 1):
        now = w
        for k in range(horizon):

            def n_step(n, k=k):
                end = x[k + n] @ history[k + n - 1] if k + n < m else z
                return sum(gamma**i * c[k + i] for i in range(n)) + gamma**n * end

            steps = horizon - k
            target = (1 - lam) * sum(lam ** (n - 1) * n_step(n) for n in range(1, steps))
            target = target + lam ** (steps - 1) * n_step(steps)
            now = now + alpha * (target - x[k] @ now) * x[k]
        history.append(now)
    return torch.stack([after - before for before, after in pairwise(history)])


@few
@hypothesis.given(lengths, widths, seeds, units, units, st.booleans())
def test_dutch_traces_are_the_online_lambda_return_algorithm(m, d, seed, lam, gamma, rewards):
    sequence, w = draw(m, d, seed, rewards), weights(d)
    found = td_updates(
        *sequence[:2], w, lam, alpha=0.05, gamma=gamma, rewards=sequence.rewards, traces="dutch", online=True
    )
    expected = online_lambda_return(sequence, w, lam, 0.05, gamma)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-11)


def test_at_lambda_one_true_online_td_is_widrow_hoff_online():
    x, z, _ = draw(7, 3)
    w = weights(3)
    dutch = td_updates(x, z, w, 1.0, alpha=0.1, traces="dutch", online=True).sum(0)
    torch.testing.assert_close(dutch, widrow_hoff_updates(x, z, w, alpha=0.1, online=True).sum(0))


# modules


def network(seed=0):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 1)).double()


class Linear(nn.Module):
    def __init__(self, w):
        super().__init__()
        self.w = nn.Parameter(w.clone())

    def forward(self, x):
        return x @ self.w


@pytest.mark.parametrize("online", [False, True])
@pytest.mark.parametrize("lam", [0.0, 0.4, 1.0])
def test_a_linear_module_gets_the_linear_rules_updates(lam, online):
    x, z, c = draw(6, 3, rewards=True)
    w = weights(3)
    settings = {"alpha": 0.1, "gamma": 0.9, "rewards": c, "online": online}
    torch.testing.assert_close(
        td_updates(x, z, Linear(w), lam, **settings)["w"], td_updates(x, z, w, lam, **settings)
    )
    torch.testing.assert_close(
        widrow_hoff_updates(x, z, Linear(w), **settings)["w"], widrow_hoff_updates(x, z, w, **settings)
    )


def test_a_networks_updates_are_the_definitions_with_autograds_slopes():
    model, (x, z, _) = network(), draw(5, 3)
    found = td_updates(x, z, model, 0.7, alpha=0.2)
    predictions = [model(row[None])[0, 0] for row in x]
    following = [*predictions[1:], z]
    for name, p in model.named_parameters():
        slopes = [torch.autograd.grad(value, p, retain_graph=True)[0] for value in predictions]
        for t in range(5):
            trace = sum(0.7 ** (t - k) * slopes[k] for k in range(t + 1))
            torch.testing.assert_close(found[name][t], 0.2 * (following[t] - predictions[t]).detach() * trace)


def test_online_a_networks_slopes_are_those_of_the_weights_of_each_step():
    model, (x, z, _) = network(), draw(4, 3)
    found = td_updates(x, z, model, 0.7, alpha=0.2, online=True)
    traces = [torch.zeros_like(p) for p in model.parameters()]
    for t, row in enumerate(x):
        value = model(row[None])[0, 0]
        following = model(x[t + 1][None])[0, 0].detach() if t < 3 else z
        slopes = torch.autograd.grad(value, list(model.parameters()))
        traces = [0.7 * e + g for e, g in zip(traces, slopes)]
        with torch.no_grad():
            for (name, p), trace in zip(model.named_parameters(), traces):
                change = 0.2 * (following - value) * trace
                torch.testing.assert_close(found[name][t], change)
                p += change


@pytest.mark.parametrize("lam", [0.0, 0.6, 1.0])
def test_gradients_are_the_negative_sum_of_updates_at_alpha_one(lam):
    model, (x, z, c) = network(), draw(8, 3, rewards=True)
    gradients = td_gradients(model, x, z, lam, gamma=0.95, rewards=c)
    updates = td_updates(x, z, model, lam, gamma=0.95, rewards=c)
    for name, update in updates.items():
        torch.testing.assert_close(gradients[name], -update.sum(0), rtol=1e-10, atol=1e-12)


def test_widrow_hoff_gradients_are_those_of_half_the_squared_errors_and_td_at_lambda_one_too():
    model, (x, z, _) = network(), draw(8, 3)
    loss = 0.5 * (z - model(x)[:, 0]).square().sum()
    expected = torch.autograd.grad(loss, list(model.parameters()))
    for found in (widrow_hoff_gradients(model, x, z), td_gradients(model, x, z, 1.0)):
        for g, e in zip(found.values(), expected):
            torch.testing.assert_close(g, e, rtol=1e-12, atol=1e-13)


def test_for_a_network_online_td_at_lambda_one_is_not_widrow_hoff():
    model, (x, z, _) = network(), draw(8, 3)
    td = td_updates(x, z, model, 1.0, alpha=0.1, online=True)
    supervised = widrow_hoff_updates(x, z, model, alpha=0.1, online=True)
    differ = max(float((td[n].sum(0) - supervised[n].sum(0)).norm() / td[n].sum(0).norm()) for n in td)
    assert differ > 1e-2


def test_frozen_parameters_are_left_out_and_the_model_is_not_changed():
    model, (x, z, _) = network(), draw(4, 3)
    model[0].requires_grad_(False)
    before = [p.clone() for p in model.parameters()]
    found = td_updates(x, z, model, 0.5, online=True)
    assert set(found) == {"2.weight", "2.bias"} == set(td_gradients(model, x, z, 0.5))
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters()))
    assert all(p.grad is None for p in model.parameters())


def test_observations_of_a_module_may_have_any_shape():
    model = nn.Sequential(nn.Flatten(), nn.Linear(6, 1)).double()
    x = torch.randn(4, 2, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    assert td_updates(x, 1.0, model, 0.5)["1.weight"].shape == (4, 1, 6)
    assert td_gradients(model, x, 1.0, 0.5)["1.weight"].shape == (1, 6)


# bad input

X, W = torch.ones(3, 2, dtype=torch.float64), torch.ones(2, dtype=torch.float64)
NAN = torch.tensor(float("nan"))


@pytest.mark.parametrize(
    ("arguments", "settings", "error", "said"),
    [
        ((X, 1.0, W, 1.1), {}, InvalidValueError, r"lam is 1.1; expected a number in \[0, 1\]"),
        ((X, 1.0, W, -0.1), {}, InvalidValueError, "lam is -0.1"),
        ((X, 1.0, W, float("nan")), {}, InvalidValueError, "lam is nan"),
        ((X, 1.0, W, "much"), {}, InvalidTypeError, "lam is 'much'"),
        ((X, 1.0, W, 0.5), {"gamma": 1.5}, InvalidValueError, "gamma is 1.5"),
        ((X, 1.0, W, 0.5), {"alpha": float("inf")}, InvalidValueError, "alpha is inf"),
        ((X, NAN, W, 0.5), {}, InvalidValueError, "outcome is nan.*leave out"),
        ((X, torch.ones(3), W, 0.5), {}, ShapeError, r"outcome has shape \(3,\)"),
        ((X[:0], 1.0, W, 0.5), {}, ShapeError, "empty sequence"),
        ((X[:, 0], 1.0, W, 0.5), {}, ShapeError, r"expected \(m, d\)"),
        (([[1.0, 2.0], [3.0]], 1.0, W, 0.5), {}, ShapeError, "rows must be of one length"),
        ((X * NAN, 1.0, W, 0.5), {}, InvalidValueError, "NaN or infinity in row 0"),
        ((X, 1.0, W, 0.5), {"rewards": torch.ones(2)}, ShapeError, r"rewards have shape \(2,\)"),
        ((X, 1.0, torch.ones(3), 0.5), {}, ShapeError, r"weights have shape \(3,\); expected \(2,\)"),
        ((X, 1.0, [1.0, 1.0], 0.5), {}, InvalidTypeError, "weights is list"),
        ((X, 1.0, W, 0.5), {"traces": "dutsch"}, InvalidValueError, "traces is 'dutsch'"),
        ((X, 1.0, W, 0.5), {"traces": "dutch"}, InvalidValueError, "needs online=True"),
        (
            (X, 1.0, nn.Linear(2, 1), 0.5),
            {"traces": "replacing"},
            InvalidValueError,
            "linear predictors alone",
        ),
        ((X, 1.0, nn.Linear(2, 2), 0.5), {}, ShapeError, r"the model gave \(1, 2\)"),
        ((X, 1.0, nn.Identity(), 0.5), {}, InvalidValueError, "no parameter"),
        ((X * 1j, 1.0, W, 0.5), {}, InvalidTypeError, "complex128"),
    ],
)
def test_bad_input_is_refused_and_named(arguments, settings, error, said):
    with pytest.raises(error, match=said):
        td_updates(*arguments, **settings)


def test_gradients_refuse_what_updates_refuse():
    with pytest.raises(InvalidTypeError, match=r"expected an nn\.Module"):
        td_gradients(W, X, 1.0, 0.5)
    with pytest.raises(ShapeError, match=r"gave \(3, 2\) for 3 observations"):
        td_gradients(nn.Linear(2, 2).double(), X, 1.0, 0.5)
    with pytest.raises(InvalidValueError, match="lam is 2"):
        td_gradients(nn.Linear(2, 1), X, 1.0, 2)
