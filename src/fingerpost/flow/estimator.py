"""A density estimator for tables, in scikit-learn's manner."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from fingerpost._arrays import names_of
from fingerpost.errors import InvalidValueError
from fingerpost.flow._loss import cfm_loss
from fingerpost.flow.couplings import ExactOT
from fingerpost.flow.estimator_checks import check_parameters, checked_table
from fingerpost.flow.estimator_scaling import Scaling, check_independent, resolutions
from fingerpost.flow.estimator_training import Best, TrainingJob
from fingerpost.flow.estimator_training import train as train_here
from fingerpost.flow.nets import FlowMLP, GaussianStart
from fingerpost.flow.sampling import log_prob, sample
from fingerpost.flow.times import Uniform

_CHUNK = 4096
_FORMAT = 1
_STRATIFIED = Uniform("stratified")


class _Mean(nn.Module):
    """The mean of fields that were trained apart: regression estimates may be averaged."""

    def __init__(self, members: list[nn.Module]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)

    def forward(self, t: Tensor, x: Tensor) -> Tensor:
        fields = [member(t, x) for member in self.members]
        return fields[0] if len(fields) == 1 else torch.stack(fields).mean(0)


class FlowEstimator:
    r"""A density of table rows, by flow matching: fit, sample, score_samples.

    Columns are scaled (`Scaling`), a field v(t, x) is trained by `cfm_loss` on straight paths from N(0, I), and the
    density is log p(x) = log p₁(z) + log |det ∂z/∂x|, in the units of the table. With independent pairs the field starts
    as the exact flow of a Gaussian (`GaussianStart`), so that early stopping, judged on rows held out, falls back on a
    Gaussian where there is too little data for more.

    The interface is scikit-learn's, whose `clone`, pipelines and searches take it; scikit-learn is not needed.

    Args:
      width: Units of a layer; by the number of rows unless given, 32 to 256.
      depth: Residual blocks.
      steps: Updates at most.
      batch_size: Rows of an update.
      learning_rate: AdamW's rate at the start; it falls to a tenth along a cosine.
      weight_decay: AdamW's.
      dropout: Fraction of units that training drops.
      noise: Standard deviation of Gaussian noise on the scaled rows in training; it smooths the density.
      ema: Decay of the moving average of the weights, which is what is used.
      validation_fraction: Rows held out for early stopping.
      evaluate_every: Updates between evaluations on them.
      patience: Evaluations without a better one before training stops.
      members: How many fields are trained and averaged; each holds other rows out.
      scaling: "power" (Yeo–Johnson) or "linear" scaling of columns.
      dequantize: Whether a column that was rounded gets uniform noise of its resolution in training. Its density is then
        that of the rounded value's interval; without, it may grow without bound.
      coupling: "independent" or "exact-ot" pairs of noise and data.
      rtol: Relative tolerance of the solver, in sampling and in densities.
      atol: Absolute tolerance of the solver.
      device: Where to train and sample.
      random_state: An integer makes everything repeatable; None draws anew each time.

    Attributes:
      columns_: Names of the columns; x1, x2, … where there are none.
      n_features_in_: How many.
      history_: A row for each evaluation of each member: member, step, loss, held_out.
      resolutions_: What each column was rounded to, 0 where it was not.

    >>> x = np.random.default_rng(0).normal(5.0, 2.0, (200, 2))
    >>> estimator = FlowEstimator(steps=100, random_state=0).fit(x)
    >>> estimator.sample(3).shape, estimator.score_samples(x[:2]).shape
    ((3, 2), (2,))
    """

    def __init__(
        self,
        *,
        width: int | None = None,
        depth: int = 2,
        steps: int = 4000,
        batch_size: int = 256,
        learning_rate: float = 2e-3,
        weight_decay: float = 1e-2,
        dropout: float = 0.0,
        noise: float = 0.0,
        ema: float = 0.99,
        validation_fraction: float = 0.15,
        evaluate_every: int = 100,
        patience: int = 10,
        members: int = 1,
        scaling: str = "power",
        dequantize: bool = True,
        coupling: str = "independent",
        rtol: float = 1e-4,
        atol: float = 1e-5,
        device: str = "cpu",
        random_state: int | None = None,
    ) -> None:
        self.width, self.depth, self.steps, self.batch_size = width, depth, steps, batch_size
        self.learning_rate, self.weight_decay, self.dropout = learning_rate, weight_decay, dropout
        self.noise, self.ema, self.validation_fraction = noise, ema, validation_fraction
        self.evaluate_every, self.patience, self.members = evaluate_every, patience, members
        self.scaling, self.dequantize, self.coupling = scaling, dequantize, coupling
        self.rtol, self.atol, self.device, self.random_state = rtol, atol, device, random_state

    # scikit-learn's protocol

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """The settings by name."""
        return {
            name: getattr(self, name) for name in list(inspect.signature(type(self).__init__).parameters)[1:]
        }

    def set_params(self, **params: Any) -> FlowEstimator:
        """Changes settings; raises InvalidValueError for one that does not exist."""
        known = self.get_params()
        for name, value in params.items():
            if name not in known:
                raise InvalidValueError(
                    f"FlowEstimator has no setting {name!r}; its settings are {', '.join(known)}"
                )
            setattr(self, name, value)
        return self

    def __repr__(self) -> str:
        default = FlowEstimator().get_params()
        changed = {name: value for name, value in self.get_params().items() if value != default[name]}
        return f"FlowEstimator({', '.join(f'{name}={value!r}' for name, value in changed.items())})"

    def __sklearn_tags__(self) -> Any:
        from sklearn.utils import InputTags, Tags, TargetTags  # pyright: ignore[reportMissingImports]

        return Tags(
            estimator_type="density_estimator",
            target_tags=TargetTags(required=False),
            input_tags=InputTags(),
            non_deterministic=self.random_state is None,
        )

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "field_")

    # training

    def fit(
        self, X: Any, y: Any = None, *, train: Callable[[TrainingJob], Any] = train_here
    ) -> FlowEstimator:
        """Learns the density of rows.

        Args:
          X: Rows, shape (n, d): an array, nested lists, a DataFrame or a `NumericTable`. Numbers only.
          y: Ignored; there for scikit-learn.
          train: Carries out one `TrainingJob`; another loop than the plain one here, such as the lab's trainer.

        Raises:
          InvalidValueError: If there is a single row, a value is missing, a column is constant, holds text, or depends
            linearly on others; the message names column and row.
        """
        check_parameters(self)
        columns = names_of(X)
        x = checked_table(X, columns, least=2)
        self.columns_ = tuple(columns or (f"x{k + 1}" for k in range(x.shape[1])))
        check_independent(x, self.columns_)
        if columns is not None:
            self.feature_names_in_ = np.asarray(columns, dtype=object)
        self.n_features_in_ = x.shape[1]
        self.resolutions_ = resolutions(x) if self.dequantize else np.zeros(x.shape[1])
        seed = self._seed()
        generator = np.random.default_rng(seed)
        spread = x + self.resolutions_ * generator.uniform(-0.5, 0.5, x.shape)
        self.scaling_ = Scaling(self.scaling).fit(spread)
        order = generator.permutation(len(x))
        self.field_ = self._new_field(len(x), seed)
        self.history_: list[dict[str, float]] = []
        for k, member in enumerate(self.field_.members):
            job, best = self._job(k, member, x, order, seed)
            history = train(job)
            member.load_state_dict(best.weights)
            self.history_ += [{"member": k, **row} for row in history or []]
        self.field_.double().eval().requires_grad_(False)  # densities should not depend on the order of rows
        return self

    def _seed(self) -> int:
        if self.random_state is None:
            return int(np.random.SeedSequence().generate_state(1)[0])
        return int(self.random_state)

    def _new_field(self, rows: int, seed: int) -> _Mean:
        width = self.width or int(np.clip(16 * round(np.sqrt(rows) / 8), 32, 256))
        settings = {"width": width, "depth": self.depth, "dropout": self.dropout}
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            nets = [FlowMLP(self.n_features_in_, **settings) for _ in range(self.members)]
        self.width_ = width
        independent = self.coupling == "independent"
        return _Mean([GaussianStart(net) if independent else net for net in nets]).to(self.device)

    def _job(
        self, k: int, model: nn.Module, x: np.ndarray, order: np.ndarray, seed: int
    ) -> tuple[TrainingJob, Best]:
        held = self._held_out(k, order)
        kept = np.setdiff1d(order, held, assume_unique=True)
        generator = torch.Generator(self.device).manual_seed(seed + 7919 * (k + 1))
        optimizer = torch.optim.AdamW(model.parameters(), self.learning_rate, weight_decay=self.weight_decay)
        best = Best(model)
        evaluate = self._evaluation(x[held], best, seed)
        evaluate(model)  # the start counts too
        job = TrainingJob(
            name=f"member-{k}",
            model=model,
            optimizer=optimizer,
            scheduler=torch.optim.lr_scheduler.CosineAnnealingLR(
                optimizer, self.steps, 0.1 * self.learning_rate
            ),
            step=self._step(generator),
            batches=self._batches(x[kept], seed + 104729 * (k + 1)),
            steps=self.steps,
            ema=self.ema,
            evaluate=evaluate,
            evaluate_every=self.evaluate_every,
            patience=self.patience,
            seed=seed + k,
            extra={"best": best, "generator": generator},
        )
        return job, best

    def _held_out(self, k: int, order: np.ndarray) -> np.ndarray:
        """Rows for member k to hold out: the k-th slice of the order, which is closed to a ring."""
        count = min(max(1, round(self.validation_fraction * len(order))), len(order) - 1)
        return np.take(order, range(k * count, (k + 1) * count), mode="wrap")

    def _scaled(self, x: np.ndarray, generator: np.random.Generator) -> Tensor:
        spread = x + self.resolutions_ * generator.uniform(-0.5, 0.5, x.shape)
        return torch.from_numpy(self.scaling_.forward(spread)[0]).to(self.device, torch.float32)

    def _batches(self, x: np.ndarray, seed: int) -> Callable[[int], Tensor]:
        """Rows of update k, scaled; what was rounded is spread anew in each pass over the rows."""
        size = self.batch_size
        x = np.tile(x, (-(-size // len(x)), 1))  # with few rows each is met several times, with other noise
        per_pass = len(x) // size
        passes: dict[int, Tensor] = {}

        def batch(k: int) -> Tensor:
            number, place = divmod(k, per_pass)
            if number not in passes:
                passes.clear()
                generator = np.random.default_rng((seed, number))
                passes[number] = self._scaled(x[generator.permutation(len(x))], generator)
            return passes[number][place * size : (place + 1) * size]

        return batch

    def _step(self, generator: torch.Generator) -> Callable[[Any, Tensor], dict[str, Tensor]]:
        coupling = ExactOT() if self.coupling == "exact-ot" else None
        noise = self.noise

        def step(model: Any, z: Tensor) -> dict[str, Tensor]:
            model.train()
            if noise:
                z = z + noise * torch.randn(z.shape, device=z.device, generator=generator)
            loss = cfm_loss(model, z, coupling=coupling, time=_STRATIFIED, generator=generator)
            loss.backward()
            return {"loss": loss.detach()}

        return step

    def _evaluation(self, x: np.ndarray, best: Best, seed: int) -> Callable[[Any], dict[str, float]]:
        """The loss on held-out rows, each met many times, with the same noise and times at every evaluation."""
        repeats = max(1, 8192 // len(x))
        z = self._scaled(np.tile(x, (repeats, 1)), np.random.default_rng(seed))
        coupling = ExactOT() if self.coupling == "exact-ot" and len(z) <= 1024 else None

        def evaluate(model: Any) -> dict[str, float]:
            generator = torch.Generator(self.device).manual_seed(seed)
            was = model.training
            model.eval()
            with torch.no_grad():
                losses = [
                    cfm_loss(part_model, part, coupling=coupling, time=_STRATIFIED, generator=generator, reduction="sum")
                    for part_model, part in ((model, part) for part in z.split(_CHUNK))
                ]  # fmt: skip
            model.train(was)
            value = float(sum(losses)) / len(z)
            best.hear(value, model)
            return {"held_out": value}

        return evaluate

    # use

    def sample(self, n_samples: int = 1, random_state: int | None = None) -> np.ndarray:
        """Draws rows in the table's units, shape (n_samples, d), float64.

        Args:
          n_samples: How many.
          random_state: Instead of the estimator's own.
        """
        self._check_fitted()
        if n_samples < 1:
            raise InvalidValueError(f"n_samples is {n_samples}; expected at least 1")
        seed = self._seed() if random_state is None else int(random_state)
        generator = torch.Generator().manual_seed(seed)
        noise = torch.randn(n_samples, self.n_features_in_, generator=generator, dtype=torch.float64)
        noise = noise.to(self.device)
        parts = [sample(self.field_, part, rtol=self.rtol, atol=self.atol) for part in noise.split(_CHUNK)]
        return self.scaling_.inverse(torch.cat(parts).cpu().numpy())

    def score_samples(self, X: Any) -> np.ndarray:
        """Log density of each row in the table's units, natural logarithm, shape (n,), float64.

        The solver chooses its steps for 4,096 rows together, so that a row's value depends on the rows beside it, within
        the solver's tolerance.
        """
        self._check_fitted()
        columns = names_of(X)
        if columns is not None and tuple(columns) != self.columns_:
            raise InvalidValueError(
                f"The feature names should match those that were passed during fit: {list(self.columns_)}; got {columns}"
            )
        x = checked_table(X, self.columns_, least=1)
        if x.shape[1] != self.n_features_in_:
            raise InvalidValueError(
                f"X has {x.shape[1]} features, but FlowEstimator is expecting {self.n_features_in_} features as input"
            )
        z, change = self.scaling_.forward(x)
        rows = torch.from_numpy(z).to(self.device)
        density = [log_prob(self.field_, part, rtol=self.rtol, atol=self.atol) for part in rows.split(_CHUNK)]
        return torch.cat(density).cpu().numpy() + change

    def score(self, X: Any, y: Any = None) -> float:
        """The mean of `score_samples`: log likelihood of a row, higher is better."""
        return float(self.score_samples(X).mean())

    def _check_fitted(self) -> None:
        if not self.__sklearn_is_fitted__():
            raise InvalidValueError("this FlowEstimator is not fitted yet; call fit(X), or load one")

    # files

    def save(self, path: str | Path) -> None:
        """Writes everything into one safetensors file: arrays as tensors, settings and names as JSON in its header."""
        from safetensors.numpy import save_file

        self._check_fitted()
        arrays = {f"scaling.{name}": value for name, value in self.scaling_.arrays().items()}
        arrays["resolutions"] = self.resolutions_
        arrays |= {f"field.{name}": value.cpu().numpy() for name, value in self.field_.state_dict().items()}
        facts = {
            "format": _FORMAT,
            "params": self.get_params(),
            "columns": list(self.columns_),
            "named": hasattr(self, "feature_names_in_"),
            "width": self.width_,
            "history": self.history_,
        }
        contiguous = {name: np.ascontiguousarray(value) for name, value in arrays.items()}
        save_file(contiguous, str(path), metadata={"fingerpost": json.dumps(facts)})

    @classmethod
    def load(cls, path: str | Path) -> FlowEstimator:
        """Reads what `save` wrote; nothing is unpickled.

        Raises:
          InvalidValueError: If there is no such file, or it holds something else.
        """
        facts, arrays = _read(Path(path))
        self = cls(**facts["params"])
        self.columns_ = tuple(facts["columns"])
        if facts["named"]:
            self.feature_names_in_ = np.asarray(self.columns_, dtype=object)
        self.n_features_in_ = len(self.columns_)
        self.history_, self.resolutions_ = facts["history"], arrays["resolutions"]
        self.scaling_ = Scaling(self.scaling)
        for name in self.scaling_.arrays():
            setattr(self.scaling_, name, arrays[f"scaling.{name}"])
        width, self.width = self.width, facts["width"]
        self.field_ = self._new_field(2, 0).double()
        self.width = width
        prefix = "field."
        weights = {
            name[len(prefix) :]: torch.from_numpy(value)
            for name, value in arrays.items()
            if name.startswith(prefix)
        }
        self.field_.load_state_dict(weights)
        self.field_.eval().requires_grad_(False)
        return self


def _read(path: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(path), "np") as file:
            facts = (file.metadata() or {}).get("fingerpost")
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  not a mapping
    except (OSError, SafetensorError) as error:
        raise InvalidValueError(f"{path} cannot be read as an estimator: {error}") from error
    found = json.loads(facts) if facts else {}
    if found.get("format") != _FORMAT:
        raise InvalidValueError(f"{path} holds no FlowEstimator that this version can read")
    return found, arrays
