"""Regression with the kernel of an infinitely wide network, in scikit-learn's manner."""

from __future__ import annotations

import inspect
import math
import numbers
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fingerpost._arrays import checked_rows, names_of
from fingerpost.errors import InvalidTypeError, InvalidValueError, NumericalError, ShapeError
from fingerpost.spectral._conjugate_gradients import conjugate_gradients, preconditioner
from fingerpost.spectral._decay import learned_over_value
from fingerpost.spectral._kernel import Block, floating, known, symmetric
from fingerpost.spectral._regression_input import checked_labels

KERNELS = ("relu_ntk", "relu_nngp")
SOLVERS = ("cg", "cholesky")
_CHUNK = 2048

Kernel = Callable[[Tensor, Tensor], Tensor]


class KernelRegressor:
    r"""Kernel ridge regression: what a wide network has learned after training, or on the way there.

    f(x) = m + k(x, X) (K + ρI)⁻¹ (y − m), with m the mean of the labels: the limit of gradient descent on
    ½ Σ (f − y)² + ½ ρ |θ − θ₀|² for a network of infinite width whose output starts at m (Jacot et al. 2018,
    https://arxiv.org/abs/1806.07572, section 5; with ρ as Hu et al. 2020, https://arxiv.org/abs/1905.11368, theorem
    5.1). `stop_at` stops the same training, as gradient flow, at time t: f(x) = m + k(x, X) φ(K + ρI) (y − m),
    φ(λ) = (1 − exp(−λt))/λ. Everything is computed in float64.

    The interface is scikit-learn's, whose `clone`, pipelines and searches take it; scikit-learn is not needed.

    Args:
      kernel: ``"relu_ntk"``, ``"relu_nngp"``, or a callable k(x1, x2) from float64 points (n, d), (m, d) to (n, m),
        symmetric and positive semidefinite.
      depth: Hidden layers of the network that a named kernel stands for.
      encoding: Maps float64 points (n, d) to features before the kernel, such as `FourierFeatures`; None for none.
      ridge: ρ, in the kernel's units, at least 0.
      stop_at: Training time t, the number of steps times the learning rate of ``"half_sum"``; None trains to the end.
      center: Whether training starts at the labels' mean; otherwise at 0.
      solver: ``"cholesky"``, exact, O(n³); or ``"cg"``, conjugate gradients behind a pivoted Cholesky preconditioner,
        O(n²) an iteration. `stop_at` takes the eigenvalues instead, O(n³).
      tolerance: Relative residual at which conjugate gradients stop.
      max_iterations: Of conjugate gradients at most; None is 10 n.
      rank: Of the preconditioner.
      progress: Whether conjugate gradients show a bar; it appears on a terminal only.

    Attributes:
      n_features_in_: Columns of X.
      dual_coef_: The weights of the training points, (n,) or (n, o).
      intercept_: m, a number or shape (o,).
      n_iterations_: Of conjugate gradients; 0 with another solver.
      residual_: The relative residual reached, the largest over outputs; 0 where it is not measured.

    >>> x = np.linspace(0, 1, 20)[:, None]
    >>> regressor = KernelRegressor(lambda a, b: torch.exp(-50 * (a - b.T) ** 2), ridge=1e-6).fit(x, np.sin(6 * x[:, 0]))
    >>> bool(abs(regressor.predict([[0.5]])[0] - np.sin(3)) < 1e-4)
    True
    """

    def __init__(
        self,
        kernel: str | Kernel = "relu_ntk",
        *,
        depth: int = 3,
        encoding: Callable[[Tensor], Tensor] | None = None,
        ridge: float = 1e-3,
        stop_at: float | None = None,
        center: bool = True,
        solver: str = "cg",
        tolerance: float = 1e-8,
        max_iterations: int | None = None,
        rank: int = 100,
        progress: bool = True,
    ) -> None:
        self.kernel, self.depth, self.encoding, self.ridge = kernel, depth, encoding, ridge
        self.stop_at, self.center, self.solver, self.tolerance = stop_at, center, solver, tolerance
        self.max_iterations, self.rank, self.progress = max_iterations, rank, progress

    # scikit-learn's protocol

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """The settings by name."""
        return {
            name: getattr(self, name) for name in list(inspect.signature(type(self).__init__).parameters)[1:]
        }

    def set_params(self, **params: Any) -> KernelRegressor:
        """Changes settings; raises InvalidValueError for one that does not exist."""
        have = self.get_params()
        for name, value in params.items():
            if name not in have:
                raise InvalidValueError(
                    f"KernelRegressor has no setting {name!r}; its settings are {', '.join(have)}"
                )
            setattr(self, name, value)
        return self

    def __repr__(self) -> str:
        default = KernelRegressor().get_params()
        changed = {name: value for name, value in self.get_params().items() if value != default[name]}
        return f"KernelRegressor({', '.join(f'{name}={value!r}' for name, value in changed.items())})"

    def __sklearn_tags__(self) -> Any:
        from sklearn.utils import InputTags, RegressorTags, Tags, TargetTags  # pyright: ignore[reportMissingImports]

        return Tags(
            estimator_type="regressor",
            target_tags=TargetTags(required=True, multi_output=True),
            regressor_tags=RegressorTags(),
            input_tags=InputTags(),
        )

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "dual_coef_")

    # training

    def fit(self, X: Any, y: Any) -> KernelRegressor:
        """Solves for the weights of the training points.

        Args:
          X: Rows, shape (n, d): an array, nested lists, a DataFrame. Numbers only.
          y: Labels, (n,) or (n, o).

        Raises:
          InvalidValueError: If a setting is out of range, a value is missing or not finite, or K is no kernel.
          ShapeError: If the labels do not fit, or the kernel gives another shape than (n, n).
          NumericalError: If K + ρI is singular to rounding under ``"cholesky"``.

        Warns:
          UserWarning: If conjugate gradients ended above the tolerance, with the residual reached.
        """
        self._check_settings()
        names = names_of(X)
        x = checked_rows(X)
        labels = checked_labels(y, len(x))
        if names is not None:
            self.feature_names_in_ = np.asarray(names, dtype=object)
        elif hasattr(self, "feature_names_in_"):
            del self.feature_names_in_
        self.n_features_in_ = x.shape[1]
        self._X = torch.from_numpy(x)
        self.intercept_ = labels.mean(0) if self.center else np.zeros(labels.shape[1:])
        residual = torch.from_numpy(labels - self.intercept_).reshape(len(x), -1)
        K = self._gram(self._X, self._X)
        epsilon = torch.finfo(K.dtype).eps
        block = Block(symmetric(K.to(torch.float64), epsilon), epsilon)
        self.n_iterations_, self.residual_ = 0, 0.0
        self.dual_coef_ = self._solve(block, residual).reshape(labels.shape).numpy()
        return self

    def _solve(self, block: Block, b: Tensor) -> Tensor:
        K = block.matrix
        if self.stop_at is not None:
            values, vectors = block.eigen()
            time = torch.tensor(float(self.stop_at), dtype=torch.float64)
            factors = learned_over_value(values + self.ridge, time, 1.0, "flow")
            return vectors @ (factors[:, None] * (vectors.T @ b))
        if self.solver == "cholesky":
            return self._factorised(K, b)
        limit = self.max_iterations or 10 * len(K)
        with _bar(self.progress, self.tolerance) as report:
            solved = conjugate_gradients(
                lambda p: K @ p + self.ridge * p,
                b,
                precondition=preconditioner(K, self.ridge, self.rank),
                tolerance=self.tolerance,
                max_iterations=limit,
                report=report,
            )
        self.n_iterations_, self.residual_ = solved.iterations, solved.residual
        if not solved.residual <= 2 * self.tolerance:
            warnings.warn(
                f"conjugate gradients ended at the relative residual {solved.residual:.2g} after {solved.iterations} "
                f"iterations, above the tolerance {self.tolerance:.2g}: raise ridge or max_iterations, or take "
                "solver='cholesky'",
                UserWarning,
                stacklevel=3,
            )
        return solved.x

    def _factorised(self, K: Tensor, b: Tensor) -> Tensor:
        shifted = K + self.ridge * torch.eye(len(K), dtype=K.dtype)
        factor, failed = torch.linalg.cholesky_ex(shifted)
        if int(failed):
            raise NumericalError(
                f"K + ridge is not positive definite to rounding (row {int(failed) - 1}, ridge {self.ridge:g}); points "
                "may be doubled: raise ridge, or take stop_at"
            )
        return torch.cholesky_solve(b, factor)

    # use

    def predict(self, X: Any) -> np.ndarray:
        """Predictions, shape (m,) or (m, o) as the labels were, float64."""
        if not self.__sklearn_is_fitted__():
            raise _not_fitted("this KernelRegressor is not fitted yet; call fit(X, y)")
        names = names_of(X)
        if names is not None and hasattr(self, "feature_names_in_") and names != list(self.feature_names_in_):
            raise InvalidValueError(
                "The feature names should match those that were passed during fit: "
                f"{list(self.feature_names_in_)}; got {names}"
            )
        x = checked_rows(X)
        if x.shape[1] != self.n_features_in_:
            raise InvalidValueError(
                f"X has {x.shape[1]} features, but KernelRegressor is expecting {self.n_features_in_} features as input"
            )
        weights = torch.from_numpy(self.dual_coef_)
        parts = [
            self._gram(part, self._X).to(torch.float64) @ weights
            for part in torch.from_numpy(x).split(_CHUNK)
        ]
        return torch.cat(parts).numpy() + self.intercept_

    def score(self, X: Any, y: Any) -> float:
        """R², the mean over outputs: 1 − Σ (y − f)² / Σ (y − mean y)²."""
        found = self.predict(X)
        labels = checked_labels(y, len(found))
        if labels.shape != found.shape:
            raise ShapeError(f"y has shape {labels.shape}; the predictions have {found.shape}")
        left = np.square(labels - found).sum(0)
        total = np.square(labels - labels.mean(0)).sum(0)
        constant = np.where(left == 0, 1.0, 0.0)  # as scikit-learn scores labels without variance
        return float(np.where(total > 0, 1 - left / np.where(total > 0, total, 1.0), constant).mean())

    def _gram(self, x1: Tensor, x2: Tensor) -> Tensor:
        with torch.no_grad():
            if self.encoding is not None:
                x1, x2 = self.encoding(x1), self.encoding(x2)
            found = (
                _named(self.kernel)(x1, x2, depth=self.depth)
                if isinstance(self.kernel, str)
                else self.kernel(x1, x2)
            )
        floating(found, "the kernel's result")
        if tuple(found.shape) != (len(x1), len(x2)):
            raise ShapeError(
                f"the kernel gave {tuple(found.shape)}; expected a tensor ({len(x1)}, {len(x2)})"
            )
        if not bool(torch.isfinite(found).all()):
            raise NumericalError("the kernel gave NaN or infinity; look at its scale, or at that of X")
        return found

    def _check_settings(self) -> None:
        if isinstance(self.kernel, str):
            known(self.kernel, "kernel", KERNELS)
        elif not callable(self.kernel):
            raise InvalidTypeError(
                f"kernel is {type(self.kernel).__name__}; expected a callable or one of {KERNELS}"
            )
        known(self.solver, "solver", SOLVERS)
        ranges = {"depth": (1, self.depth), "ridge": (0, self.ridge), "rank": (0, self.rank)}
        optional = {"stop_at": (0, self.stop_at), "max_iterations": (1, self.max_iterations)}
        ranges |= {name: row for name, row in optional.items() if row[1] is not None}
        for name, (low, value) in ranges.items():
            if not isinstance(value, numbers.Real) or not low <= value < math.inf:
                raise InvalidValueError(f"{name} is {value!r}; expected a finite number, at least {low}")
        if not isinstance(self.tolerance, numbers.Real) or not 0 < self.tolerance < 1:
            raise InvalidValueError(f"tolerance is {self.tolerance!r}; expected a number in (0, 1)")


def _not_fitted(message: str) -> InvalidValueError:
    """An InvalidValueError that is scikit-learn's NotFittedError too, where scikit-learn is in use."""
    home = sys.modules.get("sklearn.exceptions")
    if home is None:
        return InvalidValueError(message)
    return type("NotFittedError", (InvalidValueError, home.NotFittedError), {})(message)


def _named(name: str) -> Callable[..., Tensor]:
    from fingerpost.spectral import analytic

    return getattr(analytic, name)


@contextmanager
def _bar(wanted: bool, tolerance: float) -> Iterator[Callable[[int, float], None] | None]:
    """A progress bar that fills as the logarithm of the residual falls to the tolerance; on a terminal only."""
    if not wanted or not sys.stderr.isatty():
        yield None
        return
    from tqdm import tqdm

    form = "{l_bar}{bar}| {postfix}"
    with tqdm(total=100, desc="conjugate gradients", leave=False, bar_format=form) as bar:

        def report(iteration: int, residual: float) -> None:
            share = math.log(max(residual, 1e-300)) / math.log(tolerance)
            bar.n = max(bar.n, min(100, round(100 * share)))
            bar.set_postfix_str(f"iteration {iteration}, residual {residual:.1e}")

        yield report
