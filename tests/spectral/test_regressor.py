"""Kernel regression against closed forms and scikit-learn's own, its solvers against each other, and bad input."""

from __future__ import annotations

import math
import pickle
import subprocess
import sys

import numpy as np
import pytest
import torch

from fingerpost import spectral
from fingerpost.errors import FingerpostError, InvalidTypeError, InvalidValueError, NumericalError, ShapeError
from fingerpost.spectral import FourierFeatures, KernelRegressor, predict
from fingerpost.spectral._conjugate_gradients import conjugate_gradients, pivoted_cholesky, preconditioner

from estimator_checks import OF_REGRESSORS  # isort: skip


def gaussian(a, b):
    return torch.exp(-0.5 * torch.cdist(a, b) ** 2)


def table(n=60, d=2, outputs=None, seed=0):
    generator = np.random.default_rng(seed)
    x = generator.normal(size=(n, d))
    y = np.sin(2 * x[:, :1]) + x[:, -1:] * np.arange(1, (outputs or 1) + 1) + 3
    return x, y if outputs else y[:, 0]


# what is solved


@pytest.mark.parametrize("solver", ["cg", "cholesky"])
@pytest.mark.parametrize("outputs", [None, 1, 3])
def test_the_solution_is_scikit_learns_kernel_ridge(solver, outputs):
    ridge = pytest.importorskip("sklearn.kernel_ridge")
    x, y = table(outputs=outputs)
    mean = y.mean(0)
    theirs = ridge.KernelRidge(alpha=0.01, kernel="rbf", gamma=0.5).fit(x, y - mean)
    ours = KernelRegressor(gaussian, ridge=0.01, solver=solver, tolerance=1e-12).fit(x, y)
    test = table(20, seed=1)[0]
    np.testing.assert_allclose(ours.predict(test), theirs.predict(test) + mean, rtol=1e-8, atol=1e-8)
    assert ours.predict(test).shape == y[:20].shape
    assert ours.residual_ <= 2e-12


@pytest.mark.parametrize("stop_at", [0.0, 0.1, 3.0, 1e3])
@pytest.mark.parametrize("center", [True, False])
def test_stopping_is_gradient_flow_of_the_dynamics_from_the_mean(stop_at, center):
    x, y = table(outputs=2)
    ours = KernelRegressor(gaussian, ridge=0.0, stop_at=stop_at, center=center).fit(x, y)
    points, test = torch.from_numpy(x), torch.from_numpy(table(9, seed=1)[0])
    start = torch.from_numpy(y.mean(0) if center else np.zeros(2))
    flow = predict(
        gaussian(points, points),
        torch.from_numpy(y),
        stop_at,
        1.0,
        start.expand(60, 2),
        K_test=gaussian(test, points),
        f0_test=start.expand(9, 2),
        time="flow",
    )
    np.testing.assert_allclose(ours.predict(test.numpy()), flow.numpy(), rtol=1e-9, atol=1e-9)


def test_a_late_stop_is_the_ridge_solution_and_an_early_one_the_mean():
    x, y = table()
    late = KernelRegressor(gaussian, ridge=0.1, stop_at=1e9).fit(x, y)
    end = KernelRegressor(gaussian, ridge=0.1, solver="cholesky").fit(x, y)
    np.testing.assert_allclose(late.dual_coef_, end.dual_coef_, rtol=1e-8, atol=1e-10)
    np.testing.assert_allclose(KernelRegressor(gaussian, stop_at=0.0).fit(x, y).predict(x), y.mean())


def test_stopping_with_a_ridge_is_flow_on_the_penalised_loss_of_the_parameters():
    """Euler steps of ½ Σ (f − y)² + ½ ρ |θ|² for f = Φθ, against the closed form."""
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(12, 5, generator=generator, dtype=torch.float64) / 3
    y = torch.randn(12, 1, generator=generator, dtype=torch.float64)
    theta, rho, time, steps = torch.zeros(5, 1, dtype=torch.float64), 0.7, 2.0, 40_000
    for _ in range(steps):
        theta = theta - time / steps * (features.T @ (features @ theta - y) + rho * theta)
    ours = KernelRegressor(lambda a, b: a @ b.T, ridge=rho, stop_at=time, center=False)
    found = ours.fit(features.numpy(), y[:, 0].numpy()).predict(features.numpy())
    np.testing.assert_allclose(found, (features @ theta)[:, 0].numpy(), atol=2e-5)


def test_an_encoding_comes_before_the_kernel():
    x, y = table(d=1)

    def circle(v):
        return torch.cat([torch.cos(v), torch.sin(v)], 1)

    inside = KernelRegressor(lambda a, b: gaussian(circle(a), circle(b)), solver="cholesky").fit(x, y)
    before = KernelRegressor(gaussian, encoding=circle, solver="cholesky").fit(x, y)
    np.testing.assert_array_equal(inside.predict(x), before.predict(x))
    np.testing.assert_allclose(before.predict(x + 2 * np.pi), before.predict(x), rtol=1e-9)


@pytest.mark.parametrize("name", ["relu_ntk", "relu_nngp"])
def test_named_kernels_are_those_of_wide_networks_of_that_depth_behind_the_encoding(name):
    x, y = table(d=1)
    x = (x - x.min()) / (2 * np.ptp(x))
    encoding = FourierFeatures.basic(1)
    named = KernelRegressor(name, depth=2, encoding=encoding, ridge=1e-2, solver="cholesky").fit(x, y)
    kernel = getattr(spectral, name)
    given = KernelRegressor(
        lambda a, b: kernel(a, b, depth=2, encoding=encoding), ridge=1e-2, solver="cholesky"
    )
    np.testing.assert_allclose(named.predict(x), given.fit(x, y).predict(x), rtol=1e-10)
    deeper = KernelRegressor(name, depth=5, encoding=encoding, ridge=1e-2, solver="cholesky").fit(x, y)
    assert not np.allclose(deeper.predict(x), named.predict(x), rtol=1e-4)
    assert named.score(x, y) > 0.9


def test_conjugate_gradients_solve_the_tangent_kernel_of_a_thousand_points():
    x, y = table(1000)
    by_cg = KernelRegressor(ridge=1e-3).fit(x, y)
    exact = KernelRegressor(ridge=1e-3, solver="cholesky").fit(x, y)
    np.testing.assert_allclose(by_cg.predict(x), exact.predict(x), atol=1e-5)
    assert by_cg.n_iterations_ < 200


def test_float32_points_and_kernels_are_solved_in_float64():
    x, y = table()
    single = KernelRegressor(lambda a, b: gaussian(a, b).float(), ridge=0.1, solver="cholesky").fit(
        x.astype(np.float32), y
    )
    assert single.predict(x).dtype == np.float64
    stopped = KernelRegressor(lambda a, b: gaussian(a, b).float(), stop_at=10.0).fit(x, y)
    assert np.isfinite(stopped.predict(x)).all()  # with eigenvalues that rounding put below 0
    double = KernelRegressor(gaussian, ridge=0.1, solver="cholesky").fit(x, y)
    np.testing.assert_allclose(single.predict(x), double.predict(x), rtol=1e-4)


def test_predictions_of_many_rows_are_those_of_a_row_alone():
    x, y = table(40)
    fitted = KernelRegressor(gaussian).fit(x, y)
    many = np.concatenate([x] * 60)  # more than one chunk
    np.testing.assert_allclose(fitted.predict(many), np.tile(fitted.predict(x), 60), rtol=1e-12)


# conjugate gradients


def kernel_matrix(n=200, seed=0):
    x = torch.randn(n, 2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return gaussian(x, x)


def test_conjugate_gradients_end_in_as_many_steps_as_there_are_eigenvalues():
    basis = torch.linalg.qr(
        torch.randn(30, 30, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    )[0]
    values = torch.tensor([1.0, 2.0, 5.0], dtype=torch.float64).repeat(10)
    A = basis @ torch.diag(values) @ basis.T
    b = torch.randn(30, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    heard = []
    solved = conjugate_gradients(
        lambda p: A @ p, b, precondition=lambda r: r, tolerance=1e-12, max_iterations=50,
        report=lambda k, residual: heard.append((k, residual)),
    )  # fmt: skip
    assert solved.iterations == 3
    assert [k for k, _ in heard] == [1, 2, 3]
    torch.testing.assert_close(solved.x, torch.linalg.solve(A, b))


def test_columns_of_unequal_scale_and_zeros_are_solved_each_to_the_tolerance():
    K = kernel_matrix() + 0.01 * torch.eye(200, dtype=torch.float64)
    b = torch.randn(200, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    b = b * torch.tensor([1e12, 1.0, 0.0, 1e-12], dtype=torch.float64)
    solved = conjugate_gradients(
        lambda p: K @ p, b, precondition=lambda r: r, tolerance=1e-9, max_iterations=2000
    )
    left = (b - K @ solved.x).norm(dim=0) / b.norm(dim=0).clamp(min=1e-300)
    assert float(left.max()) <= 2e-9
    assert torch.equal(solved.x[:, 2], torch.zeros(200, dtype=torch.float64))


def test_pivoted_cholesky_ends_at_the_rank_and_its_error_is_the_diagonal_left():
    features = torch.randn(50, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    K = features @ features.T
    factor = pivoted_cholesky(K, 20)
    assert factor.shape == (50, 6)
    torch.testing.assert_close(factor @ factor.T, K)
    full = kernel_matrix()
    left = full - (lambda f: f @ f.T)(pivoted_cholesky(full, 15))
    assert torch.linalg.eigvalsh(left)[0] > -1e-12  # a Schur complement
    assert float(left.diagonal().sum()) < 0.2 * 200
    assert pivoted_cholesky(torch.zeros(3, 3, dtype=torch.float64), 2).shape == (3, 0)


def test_the_preconditioner_saves_most_iterations_and_changes_no_solution():
    x, y = table(300)
    plain = KernelRegressor(gaussian, ridge=1e-5, rank=0, max_iterations=100_000).fit(x, y)
    helped = KernelRegressor(gaussian, ridge=1e-5).fit(x, y)
    assert helped.n_iterations_ < plain.n_iterations_ / 10
    np.testing.assert_allclose(helped.predict(x), plain.predict(x), atol=1e-6)


def test_the_preconditioner_is_the_inverse_of_what_it_says():
    K = kernel_matrix(80)
    factor = pivoted_cholesky(K, 10)
    shift = max(0.3, float((K.diagonal() - factor.square().sum(1)).mean()))
    P = factor @ factor.T + shift * torch.eye(80, dtype=torch.float64)
    r = torch.randn(80, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    torch.testing.assert_close(preconditioner(K, 0.3, 10)(r), torch.linalg.solve(P, r))


def test_too_few_iterations_warn_with_the_residual_reached():
    x, y = table(200)
    with pytest.warns(UserWarning, match=r"residual .* after 2 iterations"):
        fitted = KernelRegressor(gaussian, ridge=1e-6, rank=0, max_iterations=2).fit(x, y)
    assert fitted.n_iterations_ == 2
    assert fitted.residual_ > 1e-3


def test_a_bar_is_shown_on_a_terminal_alone(capsys, monkeypatch):
    x, y = table()
    KernelRegressor(gaussian).fit(x, y)
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    KernelRegressor(gaussian, rank=0).fit(x, y)
    assert "conjugate gradients" in capsys.readouterr().err
    KernelRegressor(gaussian, rank=0, progress=False).fit(x, y)
    assert capsys.readouterr().err == ""


def test_doubled_points_without_a_ridge_are_refused_by_cholesky_and_fitted_by_gradients():
    x, y = table(20)
    x, y = np.concatenate([x, x]), np.concatenate([y, y])
    with pytest.raises(NumericalError, match=r"not positive definite to rounding.*raise ridge"):
        KernelRegressor(gaussian, ridge=0.0, solver="cholesky").fit(x, y)
    fitted = KernelRegressor(gaussian, ridge=0.0, tolerance=1e-6).fit(x, y)
    np.testing.assert_allclose(fitted.predict(x), y, atol=1e-5)


# bad input

X, Y = table(12)
BAD = [
    ({}, X[:, 0], Y, InvalidValueError, "Expected 2D array"),
    ({}, X[:0], Y[:0], InvalidValueError, "no sample"),
    ({}, X[:, :0], Y, InvalidValueError, r"0 feature\(s\)"),
    ({}, np.where(np.arange(12)[:, None] == [7, -1], np.nan, X), Y, InvalidValueError, "row 7, column 0"),
    (
        {},
        X,
        np.where(np.arange(12) == 3, np.nan, Y),
        InvalidValueError,
        "y is NaN.* in 1 entry, first in row 3",
    ),
    ({}, X, Y[:5], ShapeError, "y has 5 rows and X has 12"),
    ({}, X, Y[:, None, None], ShapeError, r"y has shape \(12, 1, 1\)"),
    ({}, X, None, InvalidValueError, "requires y"),
    ({}, X + 1j, Y, InvalidValueError, "Complex"),
    ({}, [["a", "b"]], [1.0], InvalidValueError, "no number"),
    ({}, [[{}, 1]], [1.0], InvalidTypeError, "no number"),
    ({"kernel": "relu_nkt"}, X, Y, InvalidValueError, "did you mean 'relu_ntk'"),
    ({"kernel": lambda a, b: a @ b.flip(0).T}, X, Y, InvalidValueError, "not symmetric"),
    ({"kernel": lambda a, b: (a @ b.T).numpy()}, X, Y, InvalidTypeError, "the kernel's result is ndarray"),
    ({"kernel": 3}, X, Y, InvalidTypeError, "kernel is int"),
    (
        {"kernel": lambda a, b: a @ b.T @ b},
        X,
        Y,
        ShapeError,
        r"the kernel gave \(12, 2\); expected a tensor \(12, 12\)",
    ),
    ({"kernel": lambda a, b: gaussian(a, b) * math.nan}, X, Y, NumericalError, "the kernel gave NaN"),
    ({"kernel": lambda a, b: -gaussian(a, b), "stop_at": 1.0}, X, Y, InvalidValueError, "eigenvalue"),
    ({"solver": "choleksy"}, X, Y, InvalidValueError, "did you mean 'cholesky'"),
    ({"ridge": -1.0}, X, Y, InvalidValueError, "ridge is -1.0"),
    ({"ridge": "much"}, X, Y, InvalidValueError, "ridge is 'much'"),
    ({"stop_at": -1.0}, X, Y, InvalidValueError, "stop_at is -1.0"),
    ({"depth": 0}, X, Y, InvalidValueError, "depth is 0"),
    ({"tolerance": 0.0}, X, Y, InvalidValueError, "tolerance is 0.0"),
    ({"max_iterations": 0}, X, Y, InvalidValueError, "max_iterations is 0"),
]


@pytest.mark.parametrize(("changes", "x", "y", "error", "said"), BAD)
def test_bad_input_is_refused_by_name(changes, x, y, error, said):
    with pytest.raises(error, match=said) as caught:
        KernelRegressor(**{"kernel": gaussian, **changes}).fit(x, y)
    assert isinstance(caught.value, FingerpostError)


def test_use_before_fit_and_other_columns_are_refused():
    with pytest.raises(InvalidValueError, match="not fitted"):
        KernelRegressor().predict(X)
    fitted = KernelRegressor(gaussian).fit(X, Y)
    with pytest.raises(InvalidValueError, match="3 features, but KernelRegressor is expecting 2"):
        fitted.predict(np.zeros((4, 3)))
    with pytest.raises(ShapeError, match=r"y has shape \(12, 1\)"):
        fitted.score(X, Y[:, None])


# scikit-learn's manner


def test_settings_are_listed_changed_and_shown():
    regressor = KernelRegressor(depth=2)
    assert regressor.set_params(ridge=0.5) is regressor
    assert regressor.get_params()["ridge"] == 0.5
    assert repr(regressor) == "KernelRegressor(depth=2, ridge=0.5)"
    assert repr(KernelRegressor(ridge=float("0.001"))) == "KernelRegressor()"
    with pytest.raises(InvalidValueError, match="no setting 'rigde'"):
        regressor.set_params(rigde=1)


def test_the_score_is_scikit_learns_r2():
    metrics = pytest.importorskip("sklearn.metrics")
    x, y = table(outputs=3)
    fitted = KernelRegressor(gaussian, ridge=1.0).fit(x, y)
    other = table(30, outputs=3, seed=5)
    assert fitted.score(*other) == pytest.approx(
        metrics.r2_score(other[1], fitted.predict(other[0])), rel=1e-12
    )


def test_a_fit_changes_with_the_data_and_repeats_to_the_bit():
    x, y = table()
    first, second = (KernelRegressor(gaussian).fit(x, y) for _ in range(2))
    np.testing.assert_array_equal(first.predict(x), second.predict(x))
    assert not np.array_equal(first.predict(x), KernelRegressor(gaussian).fit(x, 2 * y).predict(x))
    again = pickle.loads(pickle.dumps(first))
    np.testing.assert_array_equal(again.predict(x), first.predict(x))


CHECKS = (*OF_REGRESSORS, "check_regressor_multioutput", "check_supervised_y_2d")


@pytest.mark.parametrize("name", CHECKS)
def test_scikit_learns_own_check_passes(name):
    checks = pytest.importorskip("sklearn.utils.estimator_checks")
    if not hasattr(checks, name):
        pytest.skip(f"this scikit-learn has no {name}")
    getattr(checks, name)("KernelRegressor", KernelRegressor(gaussian))


def test_clone_pipeline_and_search_take_it():
    base = pytest.importorskip("sklearn.base")
    from sklearn.model_selection import GridSearchCV
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    x, y = table()
    twin = base.clone(KernelRegressor(gaussian, ridge=0.1))
    assert twin.get_params() == KernelRegressor(gaussian, ridge=0.1).get_params()
    assert base.is_regressor(twin)
    assert make_pipeline(StandardScaler(), twin).fit(x, y).score(x, y) > 0.9
    search = GridSearchCV(KernelRegressor(gaussian), {"ridge": [1e-2, 1e3]}, cv=3).fit(x, y)
    assert search.best_params_ == {"ridge": 1e-2}


def test_columns_with_names_are_held_to_their_order():
    class Frame:
        def __init__(self, names, values):
            self.columns, self._values = names, values

        def __array__(self, dtype=None, copy=None):
            return np.asarray(self._values, dtype)

    fitted = KernelRegressor(gaussian).fit(Frame(["a", "b"], X), Y)
    assert list(fitted.feature_names_in_) == ["a", "b"]
    with pytest.raises(InvalidValueError, match="feature names should match"):
        fitted.predict(Frame(["b", "a"], X))
    fitted.fit(X, Y)
    assert not hasattr(fitted, "feature_names_in_")


def test_the_regressor_never_imports_scikit_learn():
    code = (
        "import sys, numpy as np, torch; from fingerpost.spectral import KernelRegressor; "
        "KernelRegressor(lambda a, b: a @ b.T).fit(np.ones((3, 2)), np.arange(3.0)).score(np.ones((3, 2)), np.ones(3)); "
        "assert 'sklearn' not in sys.modules"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
