"""A linear predictor of outcomes, in scikit-learn's manner."""

from __future__ import annotations

import inspect
import numbers
import sys
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fingerpost._arrays import checked_rows, names_of
from fingerpost.errors import InvalidValueError, NumericalError
from fingerpost.td._checks import OutcomeSequence, check_choice, check_number, check_unit, checked_many
from fingerpost.td._learner_input import given_sequences
from fingerpost.td.maps import batch_fixed_point, stable_alpha, sweep
from fingerpost.td.updates import TRACES, td_updates


class TDLearner:
    r"""Predicts from each observation of a sequence what the sequence will come to, by TD(λ).

    P_t = w·x_t + intercept learns from the next prediction as well as from the outcome: λ = 1 is least squares on (x_t, z),
    λ = 0 leans on the next prediction alone (Sutton 1988, https://doi.org/10.1007/BF00115009). Without `epochs` the weights are
    the limit of presenting the sequences again and again (`batch_fixed_point`), which no step size and no scale of the features
    enters.

    The interface is scikit-learn's, whose `clone`, pipelines and searches take it; scikit-learn is not needed.

    Args:
      lam: λ in [0, 1].
      alpha: The step size; ``"auto"`` takes `stable_alpha` of the sequences seen so far.
      gamma: γ in [0, 1].
      epochs: How often `fit` presents the sequences, each followed by its change; None goes to the limit.
      traces: ``"accumulating"``, ``"replacing"`` or ``"dutch"``; the last two, which are step by step, need `epochs`.
      online: Whether weights change within a sequence; dutch traces always do so.
      intercept: Whether a constant feature is added.

    Attributes:
      coef_: Weights, shape (d,).
      intercept_: The weight of the constant.
      alpha_: The step size taken last; None if none was.
      n_features_in_: d.

    >>> days = [OutcomeSequence(torch.tensor([[0.0], [1.0]]), 1.0), OutcomeSequence(torch.tensor([[0.0], [0.0]]), 0.0)]
    >>> learner = TDLearner(lam=0.5).fit(days)
    >>> [round(float(p), 2) for p in learner.predict([[0.0], [1.0]])]
    [0.4, 1.0]
    """

    def __init__(
        self,
        *,
        lam: float = 0.3,
        alpha: float | str = "auto",
        gamma: float = 1.0,
        epochs: int | None = None,
        traces: str = "accumulating",
        online: bool = False,
        intercept: bool = True,
    ) -> None:
        self.lam, self.alpha, self.gamma, self.epochs = lam, alpha, gamma, epochs
        self.traces, self.online, self.intercept = traces, online, intercept

    # scikit-learn's protocol

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """The settings by name."""
        return {
            name: getattr(self, name) for name in list(inspect.signature(type(self).__init__).parameters)[1:]
        }

    def set_params(self, **params: Any) -> TDLearner:
        """Changes settings; raises InvalidValueError for one that does not exist."""
        have = self.get_params()
        for name, value in params.items():
            if name not in have:
                raise InvalidValueError(
                    f"TDLearner has no setting {name!r}; its settings are {', '.join(have)}"
                )
            setattr(self, name, value)
        return self

    def __repr__(self) -> str:
        default = TDLearner().get_params()
        changed = {name: value for name, value in self.get_params().items() if value != default[name]}
        return f"TDLearner({', '.join(f'{name}={value!r}' for name, value in changed.items())})"

    def __sklearn_tags__(self) -> Any:
        from sklearn.utils import InputTags, RegressorTags, Tags, TargetTags  # pyright: ignore[reportMissingImports]

        return Tags(
            estimator_type="regressor",
            target_tags=TargetTags(required=True),
            regressor_tags=RegressorTags(),
            input_tags=InputTags(),
        )

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "coef_")

    # training

    def fit(self, X: Any, y: Any = None, *, sequences: Any = None) -> TDLearner:
        """Learns from sequences, forgetting what was learned before.

        Args:
          X: A list of `OutcomeSequence`, or a `SequenceTable`; or the rows of all observations, shape (n, d).
          y: With rows, the outcome of the sequence that each belongs to, shape (n,).
          sequences: With rows, what tells sequences apart, shape (n,); rows of one are in the order of time. Unless given,
            each row is a sequence of its own, and the fit is least squares for any λ.

        Raises:
          InvalidValueError: If a setting is out of range, a value is missing, or a sequence has two outcomes.
          ShapeError: If a sequence is empty or ragged, or shapes do not fit.
          NumericalError: If the weights diverge, at a step size that was given.
        """
        self._check_settings()
        rows, names = given_sequences(X, y, sequences)
        self._forget(rows, names)
        rows = self._with_constant(rows)
        if self.epochs is None:
            self._keep(batch_fixed_point(rows, self.lam, gamma=self.gamma))
            return self
        self._step_size(rows)
        self._present(rows, self.epochs)
        return self

    def partial_fit(self, X: Any, y: Any = None, *, sequences: Any = None) -> TDLearner:
        """Presents sequences once, each followed by its change; arguments as for `fit`."""
        self._check_settings(partial=True)
        rows, names = given_sequences(X, y, sequences)
        if not self.__sklearn_is_fitted__():
            self._forget(rows, names)
        self._check_features(rows[0].observations.shape[1], names)
        rows = self._with_constant(rows)
        self._step_size(rows)
        self._present(rows, 1)
        return self

    def predict(self, X: Any) -> np.ndarray:
        """Predictions for rows (n, d): shape (n,), float64."""
        if not self.__sklearn_is_fitted__():
            raise _not_fitted("this TDLearner is not fitted yet; call fit(X, y) or partial_fit(X, y)")
        x = checked_rows(X)
        self._check_features(x.shape[1], names_of(X))
        return x @ self.coef_ + self.intercept_

    def score(self, X: Any, y: Any) -> float:
        """R² of predictions for rows (n, d) with outcomes (n,): 1 − Σ (y − P)² / Σ (y − mean y)²."""
        found = self.predict(X)
        outcomes = np.asarray(y, dtype=np.float64).reshape(found.shape)
        left, total = np.square(outcomes - found).sum(), np.square(outcomes - outcomes.mean()).sum()
        return float(1 - left / total) if total > 0 else float(left == 0)

    # within

    def _forget(self, rows: list[OutcomeSequence], names: list[str] | None) -> None:
        self.n_features_in_ = rows[0].observations.shape[1]
        self.coef_, self.intercept_ = np.zeros(self.n_features_in_), 0.0
        self.alpha_: float | None = None
        if names is not None:
            self.feature_names_in_ = np.asarray(names, dtype=object)
        elif hasattr(self, "feature_names_in_"):
            del self.feature_names_in_

    def _with_constant(self, rows: list[OutcomeSequence]) -> list[OutcomeSequence]:
        if not self.intercept:
            return rows
        return [
            row._replace(
                observations=torch.cat([row.observations, torch.ones_like(row.observations[:, :1])], 1)
            )
            for row in rows
        ]

    def _step_size(self, rows: list[OutcomeSequence]) -> None:
        if self.alpha != "auto":
            self.alpha_ = float(self.alpha)
            return
        safe = stable_alpha(rows, self.lam, gamma=self.gamma)
        self.alpha_ = safe if self.alpha_ is None else min(self.alpha_, safe)
        if not np.isfinite(self.alpha_):
            self.alpha_ = 1.0  # all observations are 0: no step changes anything

    def _weights(self, like: Tensor) -> Tensor:
        w = np.append(self.coef_, self.intercept_) if self.intercept else self.coef_
        return torch.from_numpy(np.array(w)).to(like)

    def _keep(self, w: Tensor) -> None:
        values = w.numpy().astype(np.float64)
        if not np.isfinite(values).all():
            raise NumericalError(
                f"the weights diverged at alpha = {self.alpha_:g}; lower it, or take alpha='auto'"
            )
        if self.intercept:
            self.coef_, self.intercept_ = values[:-1], float(values[-1])
        else:
            self.coef_, self.intercept_ = values, 0.0

    def _present(self, rows: list[OutcomeSequence], passes: int) -> None:
        w, alpha = self._weights(rows[0].observations), float(self.alpha_ or 0.0)
        if self.traces == "accumulating" and not self.online:
            w = sweep(rows, [self.lam], [alpha], gamma=self.gamma, w0=w, passes=passes)[0, 0]
            return self._keep(w)
        settings: dict[str, Any] = {"alpha": alpha, "gamma": self.gamma, "traces": self.traces}
        settings["online"] = self.online or self.traces == "dutch"
        for _ in range(passes):
            for x, z, c in checked_many(list(rows)):
                w = w + td_updates(x, z, w, self.lam, rewards=c, **settings).sum(0)
        return self._keep(w)

    def _check_features(self, count: int, names: list[str] | None) -> None:
        mine = getattr(self, "feature_names_in_", None)
        if names is not None and mine is not None and names != list(mine):
            raise InvalidValueError(
                f"The feature names should match those that were passed during fit: {list(mine)}; got {names}"
            )
        if count != self.n_features_in_:
            raise InvalidValueError(
                f"X has {count} features, but TDLearner is expecting {self.n_features_in_} features as input"
            )

    def _check_settings(self, partial: bool = False) -> None:
        check_unit(self.lam, "lam")
        check_unit(self.gamma, "gamma")
        check_choice(self.traces, "traces", TRACES)
        if self.alpha != "auto" and check_number(self.alpha, "alpha") <= 0:
            raise InvalidValueError(f"alpha is {self.alpha!r}; expected a number above 0, or 'auto'")
        if self.epochs is not None and (not isinstance(self.epochs, numbers.Integral) or self.epochs < 1):
            raise InvalidValueError(
                f"epochs is {self.epochs!r}; expected a whole number, at least 1, or None"
            )
        if self.epochs is None and not partial and (self.traces != "accumulating" or self.online):
            raise InvalidValueError(
                "without epochs the weights are the limit of small steps, where neither traces nor online matter: give epochs, "
                "or leave them out"
            )


def _not_fitted(message: str) -> InvalidValueError:
    """An InvalidValueError that is scikit-learn's NotFittedError too, where scikit-learn is in use."""
    home = sys.modules.get("sklearn.exceptions")
    if home is None:
        return InvalidValueError(message)
    return type("NotFittedError", (InvalidValueError, home.NotFittedError), {})(message)
