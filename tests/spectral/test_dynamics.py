"""Predicted training against real training of linearised networks, closed forms in high precision, and bad input."""

from __future__ import annotations

import math
import warnings

import mpmath
import numpy as np
import pytest
import torch
from torch import nn

from fingerpost.errors import FingerpostError, InvalidTypeError, InvalidValueError, NumericalError, ShapeError
from fingerpost.spectral import empirical_ntk, linearize, max_learning_rate, modes, predict

N, M = 7, 4
LOSSES = {
    "half_sum": lambda f, y: 0.5 * (f - y).square().sum(),
    "half_mean": lambda f, y: 0.5 * (f - y).square().sum() / len(f),
    "mse": nn.functional.mse_loss,
}


class Linearised:
    """f(θ) = f₀ + J (θ − θ₀) of a real network, trained by torch.optim.SGD on a torch loss."""

    def __init__(self, outputs: int, seed: int = 0) -> None:
        generator = torch.Generator().manual_seed(seed)
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.net = nn.Sequential(
                nn.Linear(2, 9), nn.Tanh(), nn.Linear(9, 9), nn.Tanh(), nn.Linear(9, outputs)
            ).double()  # two hidden layers: with one, Θ(x, x′) is symmetric in the outputs
        self.x = torch.randn(N, 2, generator=generator, dtype=torch.float64)
        self.x_test = torch.randn(M, 2, generator=generator, dtype=torch.float64)
        self.y = torch.randn(N, outputs, generator=generator, dtype=torch.float64)
        self.f0, self.jacobian = self._expand(self.x)
        self.f0_test, self.jacobian_test = self._expand(self.x_test)

    def _expand(self, x):
        params = {name: p.detach() for name, p in self.net.named_parameters()}
        rows = torch.func.jacrev(lambda p: torch.func.functional_call(self.net, p, (x,)))(params)
        return self.net(x).detach(), torch.cat([row.flatten(2) for row in rows.values()], 2)

    def kernel(self, other=None):
        return torch.einsum("nap,mbp->nmab", self.jacobian if other is None else other, self.jacobian)

    def trained(self, loss, learning_rate, steps):
        move = torch.zeros(self.jacobian.shape[2], dtype=torch.float64, requires_grad=True)
        optimizer = torch.optim.SGD([move], lr=learning_rate)
        for _ in range(steps):
            optimizer.zero_grad()
            loss(self.f0 + self.jacobian @ move, self.y).backward()
            optimizer.step()
        move = move.detach()
        return self.f0 + self.jacobian @ move, self.f0_test + self.jacobian_test @ move


def close(ours, theirs, rtol=1e-11):
    torch.testing.assert_close(ours, theirs, rtol=0, atol=rtol * float(theirs.abs().max()))


# against real training


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("outputs", [1, 3])
@pytest.mark.parametrize("share", [0.3, 0.9])  # of the stable limit: η λ_max = 0.6 and 1.8
@pytest.mark.parametrize("steps", [1, 2, 51])
def test_full_kernels_predict_real_training_of_the_linearised_network_to_rounding(
    loss, outputs, share, steps
):
    model = Linearised(outputs)
    K, K_test = model.kernel(), model.kernel(model.jacobian_test)
    rate = share * max_learning_rate(K, loss)
    train, test = model.trained(LOSSES[loss], rate, steps)
    close(predict(K, model.y, steps, rate, model.f0, loss=loss), train)
    given = {"K_test": K_test, "f0_test": model.f0_test}
    close(predict(K, model.y, steps, rate, model.f0, loss=loss, **given), test)


@pytest.mark.parametrize("outputs", [1, 2])
def test_kernel_linearised_network_and_prediction_agree_as_a_user_would_put_them_together(outputs):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = nn.Sequential(
            nn.Linear(2, 16), nn.Tanh(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, outputs)
        ).double()
        x, x_test, y = (
            torch.randn(N, 2).double(),
            torch.randn(M, 2).double(),
            torch.randn(N, outputs).double(),
        )
    K, K_test = (empirical_ntk(net, a, x, reduce="full") for a in (x, x_test))
    rate = 0.8 * max_learning_rate(K, "mse")
    linear = linearize(net)
    optimizer = torch.optim.SGD(linear.parameters(), lr=rate)
    for _ in range(40):
        optimizer.zero_grad()
        nn.functional.mse_loss(linear(x), y).backward()
        optimizer.step()
    with torch.no_grad():
        given = {"f0": net(x), "f0_test": net(x_test), "loss": "mse"}
        close(predict(K, y, 40, rate, K_test=K_test, **given), linear(x_test), 1e-10)


@pytest.mark.parametrize("loss", LOSSES)
def test_a_shared_kernel_predicts_several_outputs_of_one_feature_map(loss):
    """f_a = Φ w_a: one (n, n) kernel for every output."""
    generator = torch.Generator().manual_seed(1)
    features, test = (torch.randn(n, 30, generator=generator, dtype=torch.float64) for n in (N, M))
    y, f0 = (torch.randn(N, 3, generator=generator, dtype=torch.float64) for _ in range(2))
    f0_test = torch.randn(M, 3, generator=generator, dtype=torch.float64)
    K = features @ features.T
    rate = 0.7 * max_learning_rate(K, loss, outputs=3)
    move = torch.zeros(30, 3, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.SGD([move], lr=rate)
    for _ in range(20):
        optimizer.zero_grad()
        LOSSES[loss](f0 + features @ move, y).backward()
        optimizer.step()
    close(predict(K, y, 20, rate, f0, loss=loss), (f0 + features @ move).detach())
    ours = predict(K, y, 20, rate, f0, K_test=test @ features.T, f0_test=f0_test, loss=loss)
    close(ours, (f0_test + test @ move).detach())
    each = K[..., None].expand(N, N, 3)
    full = torch.einsum("nm,ab->nmab", K, torch.eye(3, dtype=torch.float64))
    for kernel in (each, full):
        assert max_learning_rate(kernel, loss) == pytest.approx(
            max_learning_rate(K, loss, outputs=3), rel=1e-12
        )
        close(predict(kernel, y, 20, rate, f0, loss=loss), predict(K, y, 20, rate, f0, loss=loss))


def test_a_kernel_for_each_output_predicts_outputs_that_do_not_see_each_other():
    generator = torch.Generator().manual_seed(2)
    a, b = (torch.randn(N, 20, generator=generator, dtype=torch.float64) for _ in range(2))
    y = torch.randn(N, 2, generator=generator, dtype=torch.float64)
    K = torch.stack([a @ a.T, b @ b.T], -1)
    ours = predict(K, y, 5, 0.01, loss="mse", K_test=K[:3])
    for k in range(2):
        close(ours[:, k], predict(K[..., k], y[:, k], 5, 0.01 / 2, loss="mse", K_test=K[:3, :, k]))


def test_the_flow_is_the_limit_of_small_steps_and_parts_from_large_ones():
    model = Linearised(1)
    K = model.kernel()[..., 0, 0]
    y, f0 = model.y[:, 0], model.f0[:, 0]
    limit = max_learning_rate(K)

    def gap(share, t):
        steps = predict(K, y, t, share * limit, f0)
        return float((steps - predict(K, y, t, share * limit, f0, time="flow")).abs().max())

    assert gap(1e-4, 1000) < 1e-4
    assert gap(1e-4, 1000) / gap(1e-5, 10000) == pytest.approx(10, rel=0.05)  # first order in η
    assert gap(0.9, 1) > 0.1 > gap(0.05, 1)


# the functions themselves, in high precision


@pytest.mark.parametrize("product", [0.0, 1e-300, 1e-18, 1e-9, 0.3, 1 - 1e-12, 1.0, 1.3, 2 - 1e-9, 2.0, 2.5])
@pytest.mark.parametrize("t", [0, 1, 2, 5, 1000])
@pytest.mark.parametrize("time", ["steps", "flow"])
@pytest.mark.filterwarnings("ignore:learning rate")
def test_phi_has_all_its_digits_from_vanishing_to_unstable_eigenvalues(product, t, time):
    value = torch.tensor([[product]], dtype=torch.float64)
    one = torch.ones(1, dtype=torch.float64)
    with mpmath.workdps(800):
        x = mpmath.mpf(product)
        left = (1 - x) ** t if time == "steps" else mpmath.exp(-x * t)
        phi = (1 - left) / x if product else mpmath.mpf(t)
        learned = x * phi
    ours = float(predict(value, one, t, 1.0, K_test=torch.ones(1, 1, dtype=torch.float64), time=time))
    assert ours == pytest.approx(float(phi), rel=4e-13, abs=0)
    assert float(predict(value, one, t, 1.0, time=time)) == pytest.approx(
        float(learned), rel=4e-13, abs=1e-300
    )
    assert float(modes(value, time=time).decay(t)) == pytest.approx(float(left), rel=4e-13, abs=1e-300)


def test_infinite_time_is_kernel_regression_and_the_pseudo_inverse_of_a_singular_kernel():
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(N, 4, generator=generator, dtype=torch.float64)
    test = torch.randn(M, 4, generator=generator, dtype=torch.float64)
    y = torch.randn(N, generator=generator, dtype=torch.float64)
    K, K_test = features @ features.T, test @ features.T
    expected = test @ torch.linalg.lstsq(features, y[:, None]).solution[:, 0]
    rate = 0.5 * max_learning_rate(K)
    for time in ("steps", "flow"):
        close(predict(K, y, math.inf, rate, K_test=K_test, time=time), expected)
        close(predict(K, y, 100_000, rate, K_test=K_test, time=time), expected, 1e-9)
    regular = K + torch.eye(N, dtype=torch.float64)
    close(predict(regular, y, math.inf, 0.1), y)


def test_many_times_at_once_are_the_same_as_one_by_one():
    model = Linearised(2)
    K, K_test = model.kernel(), model.kernel(model.jacobian_test)
    times = torch.tensor([[0, 1, 7], [30, 1000, 5]])
    rate = 0.4 * max_learning_rate(K)
    given = {"K_test": K_test, "f0_test": model.f0_test}
    together = predict(K, model.y, times, rate, model.f0, **given)
    assert together.shape == (2, 3, M, 2)
    for i, row in enumerate(times.tolist()):
        for j, t in enumerate(row):
            close(together[i, j], predict(K, model.y, t, rate, model.f0, **given))
    close(together[0, 0], model.f0_test)


def test_equation_3_as_printed_is_the_case_without_initial_output():
    model = Linearised(1)
    K, K_test = model.kernel()[..., 0, 0], model.kernel(model.jacobian_test)[..., 0, 0]
    K = K + 0.1 * torch.eye(N, dtype=torch.float64)
    printed = (
        K_test @ torch.linalg.inv(K) @ (torch.eye(N) - torch.linalg.matrix_exp(-0.01 * 30 * K)) @ model.y
    )
    close(predict(K, model.y, 30, 0.01, K_test=K_test, time="flow"), printed)


def test_a_time_that_float32_does_not_hold_keeps_its_digits():
    one = torch.ones(1, 1, dtype=torch.float64)
    assert float(predict(one, one[0], 0.1, 1.0, time="flow")) == pytest.approx(-math.expm1(-0.1), rel=1e-15)


def test_outputs_have_the_labels_dtype_and_inputs_stay_as_they_were():
    K = torch.tensor([[2.0, 1.0], [1.0, 2.0]], dtype=torch.float64, requires_grad=True)
    y = torch.ones(2, dtype=torch.float32)
    found = predict(K, y, 3, 0.1)
    assert found.dtype == torch.float32
    assert not found.requires_grad
    assert K.requires_grad
    assert torch.equal(y, torch.ones(2))


def test_a_float32_kernel_with_rounding_below_zero_is_taken_and_a_truly_indefinite_one_refused():
    features = torch.randn(200, 3, generator=torch.Generator().manual_seed(0))
    K = features @ features.T
    assert torch.linalg.eigvalsh(K.double())[0] < 0
    assert torch.isfinite(predict(K, features[:, 0], 1e6, 0.001, time="flow")).all()
    with pytest.raises(InvalidValueError, match=r"eigenvalue -1 .*none below 0"):
        predict(torch.tensor([[1.0, 2.0], [2.0, 1.0]]), torch.ones(2), 1, 0.1)


# modes and the stable limit


@pytest.mark.parametrize("time", ["steps", "flow"])
def test_modes_decay_at_their_rates_and_rebuild_the_prediction(time):
    model = Linearised(1)
    K, y, f0 = model.kernel()[..., 0, 0], model.y[:, 0], model.f0[:, 0]
    rate = 0.4 * max_learning_rate(K, "mse")
    found = modes(K, y, rate, f0, loss="mse", time=time)
    assert (found.values.diff() <= 0).all()
    close(found.vectors @ torch.diag(found.values) @ found.vectors.T, K)
    close(found.vectors.T @ (y - f0), found.coefficients)
    decay = found.decay(torch.tensor([0.0, 3.0]))
    close(decay[1], torch.exp(-3 * found.rates))
    rebuilt = y - found.vectors @ (decay[1] * found.coefficients)
    close(rebuilt, predict(K, y, 3, rate, f0, loss="mse", time=time))


def test_modes_of_a_full_kernel_are_fields_of_points_and_outputs():
    model = Linearised(2)
    found = modes(model.kernel(), model.y, 0.01, model.f0)
    assert (found.vectors.shape, found.coefficients.shape) == ((N, 2, 2 * N), (2 * N,))
    K = torch.einsum("nak,k,mbk->nmab", found.vectors, found.values, found.vectors)
    close(K, model.kernel())
    rebuilt = model.y - found.vectors @ (found.decay(4) * found.coefficients)
    close(rebuilt, predict(model.kernel(), model.y, 4, 0.01, model.f0))


def test_rates_are_infinite_at_one_step_and_negative_above_the_limit():
    K = torch.diag(torch.tensor([3.0, 1.0, 0.5, 0.0], dtype=torch.float64))
    rates = modes(K, learning_rate=1.0).rates
    np.testing.assert_allclose(rates, [-math.log(2), math.inf, math.log(2), 0.0])


@pytest.mark.parametrize("loss", LOSSES)
def test_real_training_of_the_linear_model_shrinks_below_the_limit_and_explodes_above(loss):
    model = Linearised(2)
    limit = max_learning_rate(model.kernel(), loss)
    start = float((model.f0 - model.y).norm())

    def error(share):
        return float((model.trained(LOSSES[loss], share * limit, 400)[0] - model.y).norm())

    assert error(0.99) < start < 1e-2 * error(1.02)


def test_above_the_limit_the_linear_theory_is_followed_with_a_warning_that_names_the_limit():
    model = Linearised(1)
    K, y, f0 = model.kernel()[..., 0, 0], model.y[:, 0], model.f0[:, 0]
    limit = max_learning_rate(K, "mse")
    train, _ = model.trained(LOSSES["mse"], 1.5 * limit, 21)
    with pytest.warns(UserWarning, match=rf"stable limit {limit:.6g}".replace(".", r"\.")):
        ours = predict(K, y, 21, 1.5 * limit, f0, loss="mse")
    close(ours, train[:, 0])
    each = K[..., None].expand(N, N, 2)
    with pytest.warns(
        UserWarning, match=rf"stable limit {max_learning_rate(each, 'mse'):.6g}".replace(".", r"\.")
    ):
        predict(each, model.y.expand(N, 2), 3, 3 * limit, loss="mse")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        predict(K, y, 21, 1.5 * limit, f0, loss="mse", time="flow")
        predict(K, y, 21, limit, f0, loss="mse")
    with pytest.raises(InvalidValueError, match="no limit"):
        predict(K, y, math.inf, 1.5 * limit, f0, loss="mse")
    with (
        pytest.warns(UserWarning, match="stable limit"),
        pytest.raises(NumericalError, match="overflowed at t = 100000"),
    ):
        predict(K, y, torch.tensor([1, 10**5, 10**6]), 1.5 * limit, f0, loss="mse")


def test_a_kernel_of_zeros_learns_nothing_at_any_rate():
    K, y = torch.zeros(3, 3, dtype=torch.float64), torch.ones(3, dtype=torch.float64)
    assert max_learning_rate(K) == math.inf
    for t in (5, math.inf):
        assert torch.equal(predict(K, y, t, 1e9), torch.zeros(3, dtype=torch.float64))


# bad input

K = torch.eye(3, dtype=torch.float64)
Y = torch.ones(3, dtype=torch.float64)
NAN = torch.tensor([1.0, math.nan, 2.0], dtype=torch.float64)
SKEW = K + torch.tensor([[0, 1.0, 0], [0, 0, 0], [0, 0, 0]])
BAD = [
    ({"K": K[:2]}, ShapeError, r"K has shape \(2, 3\); expected a square"),
    ({"K": K[0]}, ShapeError, r"\(3,\)"),
    ({"K": K[:0, :0]}, ShapeError, r"\(0, 0\)"),
    ({"K": K.long()}, InvalidTypeError, "K is torch.int64"),
    ({"K": K.numpy()}, InvalidTypeError, "K is ndarray"),
    ({"K": SKEW}, InvalidValueError, "not symmetric.*up to 1 "),
    ({"K": K * math.nan}, InvalidValueError, r"K is NaN or infinite in 9 entries, first at \(0, 0\)"),
    ({"y": NAN}, InvalidValueError, r"y is NaN or infinite in 1 entry, first at \(1,\)"),
    ({"y": Y[:2]}, ShapeError, r"y has shape \(2,\); expected \(3,\) or \(3, o\)"),
    ({"y": Y[None, :, None]}, ShapeError, r"y has shape \(1, 3, 1\)"),
    ({"y": Y.long()}, InvalidTypeError, "y is torch.int64"),
    ({"f0": Y[:2]}, ShapeError, "f0 has shape"),
    ({"f0": torch.ones(3, 2)}, ShapeError, r"f0 has shape \(3, 2\); expected that of y, \(3, 1\)"),
    ({"f0": NAN}, InvalidValueError, "f0 is NaN or infinite in 1 entry,"),
    ({"f0": Y, "K_test": K}, InvalidValueError, "f0 is given without f0_test"),
    ({"K_test": K[:, :2]}, ShapeError, r"K_test has shape \(3, 2\); expected \(m, 3\)"),
    ({"K_test": K * math.inf}, InvalidValueError, "K_test is NaN or infinite in 9 entries"),
    ({"K_test": K[:2], "f0_test": Y}, ShapeError, r"f0_test has shape \(3,\); expected 2 rows"),
    ({"K": K[..., None], "y": Y}, ShapeError, r"y has shape \(3,\); expected \(3, 1\)"),
    ({"t": -1}, InvalidValueError, "t holds -1; times are 0 or more"),
    ({"t": math.nan}, InvalidValueError, "t holds nan"),
    ({"t": 0.5}, InvalidValueError, "t is not whole"),
    ({"learning_rate": 0.0}, InvalidValueError, "learning_rate is 0.0"),
    ({"learning_rate": math.nan}, InvalidValueError, "learning_rate is nan"),
    ({"loss": "mze"}, InvalidValueError, "did you mean 'mse'"),
    ({"time": "flows"}, InvalidValueError, "did you mean 'flow'"),
]


@pytest.mark.parametrize(("changes", "error", "said"), BAD)
def test_bad_input_is_refused_by_name(changes, error, said):
    with pytest.raises(error, match=said) as caught:
        predict(**{"K": K, "y": Y, "t": 1, "learning_rate": 0.1, **changes})
    assert isinstance(caught.value, FingerpostError)


def test_a_kernel_for_each_output_has_no_modes_of_its_own_and_outputs_must_fit():
    with pytest.raises(ShapeError, match=r"modes\(K\[:, :, a\]"):
        modes(K[..., None])
    with pytest.raises(InvalidValueError, match="outputs is 0"):
        max_learning_rate(K, outputs=0)
    with pytest.raises(InvalidValueError, match="outputs is 3"):
        max_learning_rate(K[..., None].expand(3, 3, 2), outputs=3)
