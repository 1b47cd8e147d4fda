"""Flows between densities in the plane: what is trained, how, and how it is judged."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from fingerpost._lazy import lazy_import
from fingerpost.experiments import _densities as densities
from fingerpost.lab import Run, derive_seed, train

torch = lazy_import("torch")
flow = lazy_import("fingerpost.flow")
ode = lazy_import("fingerpost.ode")

PATHS: dict[str, Callable[[], Any]] = {
    "straight": lambda: flow.CondOT(),
    "bridge": lambda: flow.Bridge(0.3, cutoff=1e-3),
    "trigonometric": lambda: flow.Trigonometric(),
    "variance preserving": lambda: flow.VariancePreserving(),
}
COUPLINGS: dict[str, Callable[[], Any]] = {"independent": lambda: None, "exact OT": lambda: flow.ExactOT()}
DRAWN, SHOWN = 160, 1200
FREQUENCIES = (0.125, 0.25, 0.5, 1.0)  # half waves per unit of length; the densities reach to 6
CNF_BATCH = 256


@dataclass(frozen=True)
class Arm:
    """One flow to train: from which density to which, along which path, with which pairs."""

    source: str
    target: str
    path: str
    coupling: str

    @property
    def task(self) -> str:
        """From what to what."""
        return f"{self.source} → {self.target}"

    @property
    def name(self) -> str:
        """Path and pairs."""
        return f"{self.path}, {self.coupling}"

    @property
    def stage(self) -> str:
        """A name that files can have."""
        words = f"{self.source} {self.target} {self.path} {self.coupling}"
        return words.lower().replace(" ", "-")


@dataclass(frozen=True)
class Recipe:
    """How a flow is trained and judged; see the experiment's `Config`."""

    seed: int
    width: int
    steps: int
    batch_size: int
    rate: float
    ema: float
    samples: int
    repeats: int
    evaluations: tuple[int, ...]
    device: str
    dtype: str

    @property
    def place(self) -> dict[str, Any]:
        """Where tensors live."""
        return {"device": self.device, "dtype": getattr(torch, self.dtype)}


def field(recipe: Recipe, label: str) -> Any:
    """A perceptron v(t, x) of three hidden layers; it sees t, x, and sines and cosines of x at four frequencies."""

    class Field(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            width, layers = recipe.width, []
            for inputs in (3 + 4 * len(FREQUENCIES), width, width):
                layers += [torch.nn.Linear(inputs, width), torch.nn.SiLU()]
            self.net = torch.nn.Sequential(*layers, torch.nn.Linear(width, 2))
            self.register_buffer("frequencies", math.pi * torch.tensor(FREQUENCIES), persistent=False)
            self.calls = 0

        def forward(self, t: Any, x: Any) -> Any:
            self.calls += 1
            waves = (x[:, :, None] * self.frequencies).flatten(1)
            return self.net(torch.cat([x, t.to(x).expand(len(x))[:, None], waves.sin(), waves.cos()], 1))

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(recipe.seed, "field", label))
        return Field().to(**recipe.place)


def draw(name: str, n: int, generator: Any, recipe: Recipe, balanced: bool = False) -> Any:
    """N points of a density, or of the standard normal."""
    if name == "normal":
        return torch.randn(n, 2, generator=generator).to(**recipe.place)
    return densities.sample_density(name, n, generator, balanced=balanced).to(**recipe.place)


def fit(recipe: Recipe, arm: Arm, run: Run | None) -> Any:
    """Trains one field by the conditional loss; the batch of the next step is coupled meanwhile."""
    path, coupling = PATHS[arm.path](), COUPLINGS[arm.coupling]()

    def batches(step: int) -> Any:
        generator = torch.Generator().manual_seed(derive_seed(recipe.seed, arm.stage, step))
        x0 = draw(arm.source, recipe.batch_size, generator, recipe)
        x1 = draw(arm.target, recipe.batch_size, generator, recipe)
        return (x0, x1, generator) if coupling is None else (*coupling(x0, x1), generator)

    def step(model: Any, batch: Any) -> dict[str, Any]:
        x0, x1, generator = batch
        loss = flow.cfm_loss(model, x1, x0=x0, path=path, generator=generator)
        loss.backward()
        return {"loss": loss}

    return _train(recipe, arm.stage, step, batches, recipe.steps, run)


def _train(recipe: Recipe, stage: str, step: Any, batches: Any, steps: int, run: Run | None) -> Any:
    model = field(recipe, stage)
    optimizer = torch.optim.Adam(model.parameters(), lr=recipe.rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    with flow.Prefetched(batches) as ahead:
        result = train(
            model, optimizer, step, ahead, steps=steps, seed=recipe.seed, run=run, stage=stage,
            scheduler=schedule, ema=recipe.ema, log_every=max(1, steps // 100),
        )  # fmt: skip
    model.load_state_dict(result.averaged)
    return model


def judge(recipe: Recipe, arm: Arm, run: Run | None) -> dict[str, Any]:
    """Trains one arm and measures it; numbers and points that JSON can hold.

    Returns:
      `wasserstein` {evaluations: mean W₂}, `divergence` {evaluations: KL estimate, nats} for normal noise,
      `straightness`, `trajectories` (T, n, 2), `samples` (n, 2).
    """
    model = fit(recipe, arm, run)
    path = PATHS[arm.path]()
    generator = torch.Generator().manual_seed(derive_seed(recipe.seed, "judge", arm.task))
    result: dict[str, Any] = {"wasserstein": {}, "divergence": {}}
    noise = draw(arm.source, recipe.samples * recipe.repeats, generator, recipe)
    for steps in recipe.evaluations:
        moved = flow.sample(model, noise, steps=steps, time_range=path.time_range)
        result["wasserstein"][str(steps)] = _wasserstein(recipe, arm, moved)
    if arm.source == "normal":
        result["divergence"] = _divergence(recipe, arm, model, path)
    result["straightness"] = straightness(model, noise[: recipe.samples], path.time_range)
    times = torch.linspace(*path.time_range, 25).tolist()
    lines = flow.trajectory(model, noise[:DRAWN], times, method="rk4")
    result["trajectories"] = _rounded(lines)
    result["samples"] = _rounded(flow.sample(model, noise[:SHOWN], steps=100, time_range=path.time_range))
    return result


def _rounded(points: Any) -> Any:
    return [[round(v, 3) for v in row] for row in points.reshape(-1, 2).double().tolist()]


def _wasserstein(recipe: Recipe, arm: Arm, moved: Any) -> float:
    """Mean over repeats of the distance to fresh data, balanced as the public examples' are."""
    generator = torch.Generator().manual_seed(derive_seed(recipe.seed, "reference", arm.target))
    parts = []
    for part in moved.split(recipe.samples):
        reference = draw(arm.target, len(part), generator, recipe, balanced=True)
        parts.append(flow.wasserstein2(part, reference))
    return sum(parts) / len(parts)


def floor(recipe: Recipe, target: str) -> float:
    """The distance that independent samples of the data itself have to the same references."""
    arm = Arm(target, target, "", "")
    generator = torch.Generator().manual_seed(derive_seed(recipe.seed, "floor", target))
    return _wasserstein(recipe, arm, draw(target, recipe.samples * recipe.repeats, generator, recipe))


def _divergence(recipe: Recipe, arm: Arm, model: Any, path: Any) -> dict[str, float]:
    """Mean of log p_data − log p_model over fresh data, by so many Euler steps and by an adaptive solver."""
    generator = torch.Generator().manual_seed(derive_seed(recipe.seed, "divergence", arm.target))
    x = draw(arm.target, recipe.samples, generator, recipe)
    exact = float(densities.log_density(arm.target, x.double().cpu()).mean())
    out = {}
    for steps in (*recipe.evaluations, None):
        how = {"rtol": 1e-4, "atol": 1e-5} if steps is None else {"steps": steps}
        out[str(steps or "adaptive")] = exact + flow.nll(
            lambda x, how=how: flow.log_prob(model, x, path=None, time_range=path.time_range, **how), x
        )
    return out


def straightness(model: Any, x0: Any, time_range: tuple[float, float], steps: int = 100) -> float:
    """∫ E‖v(t, x_t) − (x₁ − x₀)‖² dt over E‖x₁ − x₀‖², along the model's own trajectories: 0 if they are straight."""
    times = torch.linspace(*time_range, steps + 1)
    lines = flow.trajectory(model, x0, times.tolist(), method="rk4")
    chord = lines[-1] - lines[0]
    with torch.no_grad():
        speeds = torch.stack([model(t, x) for t, x in zip(times, lines)])
    bend = (speeds - chord).square().sum(2).mean(1)
    return float(torch.trapezoid(bend, times.to(bend)) / chord.square().sum(1).mean())


def simulation(recipe: Recipe, target: str, steps: int, run: Run | None) -> dict[str, Any]:
    """Maximum likelihood through a CNF with the same net, and what a step of each objective takes.

    Returns:
      Per objective: evaluations of the field in a step (those of backward passes too) and floating-point operations; and the
      KL estimate of the CNF after its training.
    """
    base = torch.distributions.Independent(torch.distributions.Normal(torch.zeros(2, **recipe.place), 1.0), 1)

    def batches(step: int) -> Any:
        generator = torch.Generator().manual_seed(derive_seed(recipe.seed, "likelihood", step))
        return draw(target, CNF_BATCH, generator, recipe)

    def by_likelihood(model: Any, x1: Any) -> dict[str, Any]:
        loss = -ode.CNF(model, base, rtol=1e-3, atol=1e-4).log_prob(x1).mean()
        loss.backward()
        return {"loss": loss}

    def by_matching(model: Any, x1: Any) -> dict[str, Any]:
        loss = flow.cfm_loss(model, x1)
        loss.backward()
        return {"loss": loss}

    model = _train(recipe, f"likelihood-{target}", by_likelihood, batches, steps, run)
    arm = Arm("normal", target, "straight", "independent")
    divergence = _divergence(recipe, arm, model, flow.CondOT())["adaptive"]
    out: dict[str, Any] = {"divergence": divergence}
    for name, step in (("likelihood", by_likelihood), ("matching", by_matching)):
        out[name] = _cost(model, step, [batches(k) for k in range(4)])
    return out


def _cost(model: Any, step: Any, batches: list[Any]) -> dict[str, float]:
    """Mean evaluations of the field, and mean floating-point operations of its matrix products, of one step."""
    model.calls = 0
    with _counter() as counter:
        for batch in batches:
            step(model, batch)
    model.zero_grad()
    return {"evaluations": model.calls / len(batches), "operations": counter.operations / len(batches)}


def _counter() -> Any:
    """Counts the operations of matrix products, forward and backward, by torch's own table of them."""
    from torch.utils._python_dispatch import TorchDispatchMode
    from torch.utils.flop_counter import flop_registry

    class Counter(TorchDispatchMode):
        operations = 0

        def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            out = function(*args, **(kwargs or {}))
            count = flop_registry.get(function._overloadpacket)
            if count is not None:
                self.operations += int(count(*args, **(kwargs or {}), out_val=out))
            return out

    return Counter()
