"""Flows in the plane: paths × couplings × solver steps, and what simulation-free training saves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fingerpost._lazy import lazy_import
from fingerpost._table import Table
from fingerpost.errors import ConfigError, did_you_mean
from fingerpost.experiments import _densities as densities
from fingerpost.experiments import _flow_pictures as pictures
from fingerpost.experiments import _flow_plane as plane
from fingerpost.lab import Claim, Run

torch = lazy_import("torch")

SPECIFICATION = "the specification of flow (peers: 0.42 at 4 steps, 0.41 at 100)"
TONG = "Tong et al. 2023, https://arxiv.org/abs/2302.00482"
SOURCE = "flow-matching.md: simulation-based training needs several ODE solves for each step"


@dataclass(frozen=True)
class Config:
    """Settings; the defaults are the full preset.

    Args:
      seed: Seed of networks, batches and evaluations.
      targets: Densities that are also reached from normal noise.
      steps: Training steps of each flow.
      batch_size: Pairs in a batch.
      width: Units of the three hidden layers.
      rate: Adam's step size, which falls to 0 along a cosine.
      ema: Decay of the average of weights that is evaluated.
      samples: Points in a Wasserstein distance.
      repeats: Distances that are averaged.
      evaluations: Numbers of Euler steps.
      likelihood_steps: Training steps of the CNF by maximum likelihood.
      device: Where to compute.
      dtype: Precision.
    """

    seed: int = 0
    targets: tuple[str, ...] = ("checkerboard", "two-spirals")
    steps: int = 10000
    batch_size: int = 256
    width: int = 64
    rate: float = 1e-2
    ema: float = 0.995
    samples: int = 1024
    repeats: int = 4
    evaluations: tuple[int, ...] = (1, 2, 4, 8, 16, 32, 100)
    likelihood_steps: int = 400
    device: str = "cpu"
    dtype: str = "float32"


PRESETS = {
    "quick": Config(
        targets=("checkerboard",), steps=1500, samples=512, repeats=2, evaluations=(1, 2, 4, 16, 100), likelihood_steps=60,
        ema=0.98,
    ),
    "full": Config(),
}  # fmt: skip


def check(config: Config) -> None:
    """Raises ConfigError for settings that can't work."""
    for target in config.targets:
        if target not in densities.DENSITIES:
            raise ConfigError(
                f"targets has {target!r}; it is one of {', '.join(densities.DENSITIES)}"
                f"{did_you_mean(target, densities.DENSITIES)}"
            )
    if not config.evaluations or min(config.evaluations) < 1:
        raise ConfigError(f"evaluations is {config.evaluations}; give numbers of Euler steps, at least 1")
    if min(config.steps, config.likelihood_steps, config.samples, config.repeats, config.batch_size) < 1:
        raise ConfigError("steps, likelihood_steps, samples, repeats and batch_size must be at least 1")
    if not 0 < config.ema < 1:
        raise ConfigError(f"ema is {config.ema}; expected a decay in (0, 1)")


def arms(config: Config) -> list[plane.Arm]:
    """What is trained."""
    between = [("straight", "independent"), ("straight", "exact OT"), ("trigonometric", "independent")]
    out = [plane.Arm("eight-gaussians", "moons", *kind) for kind in (*between, ("bridge", "exact OT"))]
    for target in config.targets:
        kinds = (*between, ("variance preserving", "independent"))
        out += [plane.Arm("normal", target, *kind) for kind in kinds]
    return out


def run(config: Config, run: Run) -> None:
    """Trains all flows, measures them against solver steps, and holds simulation against matching."""
    fields = plane.Recipe.__dataclass_fields__
    recipe = plane.Recipe(**{name: getattr(config, name) for name in fields})
    results: dict[str, dict[str, Any]] = {}
    for arm in run.progress(arms(config), "flows"):
        result = run.once(arm.stage, lambda arm=arm: plane.judge(recipe, arm, run))
        results.setdefault(arm.task, {})[arm.name] = result
    targets = {task: task.split(" → ")[1] for task in results}
    floors = {task: plane.floor(recipe, target) for task, target in targets.items()}
    _tables(run, results, floors, config)
    _figures(run, results, floors, config, recipe)
    _claims(run, results, floors)
    _simulation(run, recipe, config, results)


def _tables(run: Run, results: Any, floors: dict[str, float], config: Config) -> None:
    for number, (task, flows) in enumerate(results.items()):
        rows = [
            [name, *one["wasserstein"].values(), one["straightness"], one["divergence"].get("adaptive")]
            for name, one in flows.items()
        ]
        rows.append(["data against data", *[floors[task]] * len(config.evaluations), None, None])
        heads = [
            "path, pairs",
            *(f"W₂ at {k}" for k in config.evaluations),
            "straightness defect",
            "KL (nats)",
        ]
        caption = (
            f"Mean of {config.repeats} exact 2-Wasserstein distances of {config.samples} samples by Euler steps to data in "
            "equal shares. Straightness defect: ∫E‖v − (x₁ − x₀)‖² dt / E‖x₁ − x₀‖² along the model's own paths. KL: mean of "
            "log p_data − log p_model on fresh data, by an adaptive solver; only for normal noise."
        )
        run.table(f"task-{number + 1}", Table(heads, rows, title=task, caption=caption))
        if any(one["divergence"] for one in flows.values()):
            run.table(f"likelihood-{number + 1}", _likelihood_table(task, flows), show=number == 1)


def _likelihood_table(task: str, flows: Any) -> Table:
    rows = [[name, *one["divergence"].values()] for name, one in flows.items()]
    heads = ["path, pairs", *next(iter(flows.values()))["divergence"]]
    caption = (
        "KL estimate in nats with the trace integrated by so many Euler steps. Below some dozens of steps it is no "
        "likelihood of anything: the discrete map has another density than the integrated trace says."
    )
    return Table(heads, rows, title=f"Likelihood against evaluations, {task}", caption=caption)


def _figures(run: Run, results: Any, floors: dict[str, float], config: Config, recipe: plane.Recipe) -> None:
    first, *rest = results
    run.figure(
        "trajectories",
        pictures.trajectories(results[first]),
        title=f"How the flows move: {first}",
        caption=f"{plane.DRAWN} samples along the trained fields. Transport within the batch makes paths short and straight.",
    )
    run.figure(
        "wasserstein",
        pictures.against_evaluations(results, floors),
        title="Quality against solver steps",
        caption=f"{config.samples} samples, means of {config.repeats}. Grey: independent data against the same references.",
    )
    generator = torch.Generator().manual_seed(config.seed)
    data = {task: plane.draw(task.split(" → ")[1], plane.SHOWN, generator, recipe).tolist() for task in rest}
    named = {task: task.split(" → ")[1] for task in rest}
    run.figure(
        "samples",
        pictures.samples(
            {named[task]: results[task] for task in rest}, {named[task]: data[task] for task in rest}
        ),
        title="Samples from normal noise",
        caption="100 Euler steps.",
    )


def _claims(run: Run, results: Any, floors: dict[str, float]) -> None:
    task = next(iter(results))
    straight, coupled = (results[task][f"straight, {pairs}"] for pairs in ("independent", "exact OT"))
    for steps, bound in ((4, 0.45), (100, 0.41)):
        if str(steps) in coupled["wasserstein"]:
            run.claim(
                Claim(
                    name=f"wasserstein-{steps}",
                    statement=f"Eight Gaussians → moons with exact transport: W₂ after {steps} Euler steps.",
                    source=SPECIFICATION,
                    expected=f"≤ {bound:g}",
                    measured=coupled["wasserstein"][str(steps)],
                    high=bound,
                    note=f"independent data against the same references: {floors[task]:.3g}; independent pairs: "
                    f"{straight['wasserstein'][str(steps)]:.3g}",
                )
            )
    run.claim(
        Claim(
            name="transport-straightens",
            statement="Exact transport within the batch makes the flow's own paths straighter than independent pairs do.",
            source=TONG,
            expected="≤ 0.5 of the defect",
            measured=coupled["straightness"] / straight["straightness"],
            high=0.5,
            unit="ratio of straightness defects",
            note=f"{coupled['straightness']:.3g} against {straight['straightness']:.3g}",
        )
    )
    few = next(iter(coupled["wasserstein"]))
    run.claim(
        Claim(
            name="transport-needs-fewer-steps",
            statement=f"With exact transport, {few} Euler step is nearer to the data than with independent pairs.",
            source=TONG,
            expected="≤ 0.6 of the distance",
            measured=coupled["wasserstein"][few] / straight["wasserstein"][few],
            high=0.6,
            unit="ratio of W₂",
        )
    )


def _simulation(run: Run, recipe: plane.Recipe, config: Config, results: Any) -> None:
    target = config.targets[0]
    steps = config.likelihood_steps
    cost = run.once("simulation", lambda: plane.simulation(recipe, target, steps, run))
    likelihood, matching = cost["likelihood"], cost["matching"]
    reached = results[f"normal → {target}"]["straight, independent"]["divergence"]["adaptive"]
    rows = [
        [
            "conditional flow matching",
            matching["evaluations"],
            matching["operations"] / 1e6,
            config.steps,
            reached,
        ],
        [
            "maximum likelihood (CNF)",
            likelihood["evaluations"],
            likelihood["operations"] / 1e6,
            steps,
            cost["divergence"],
        ],
    ]
    heads = ["objective", "evaluations a step", "megaflop a step", "training steps", "KL (nats)"]
    caption = (
        f"One training step on {plane.CNF_BATCH} points of {target}, same net, at the weights of the trained CNF. Evaluations "
        "count forward calls of the field, those of recomputation too; the CNF's also take the exact trace. Operations are "
        "those of matrix products, forward and backward."
    )
    run.table("simulation", Table(heads, rows, title="What simulation costs", caption=caption))
    run.claim(
        Claim(
            name="simulation-costs",
            statement="A step of maximum likelihood evaluates the field many times; a step of flow matching once.",
            source=SOURCE,
            expected="≥ 10 times",
            measured=likelihood["evaluations"] / matching["evaluations"],
            low=10.0,
            unit="evaluations per step, ratio",
            note=f"in operations {likelihood['operations'] / matching['operations']:.3g} times",
        )
    )
