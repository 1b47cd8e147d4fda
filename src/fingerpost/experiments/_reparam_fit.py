"""Variational fits of a Gamma posterior with four gradients, where the best fit is the posterior itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fingerpost._lazy import lazy_import
from fingerpost._table import Table
from fingerpost.experiments import _reparam_paths as paths
from fingerpost.experiments._reparam_pictures import fits_figure
from fingerpost.lab import Claim, Run, derive_seed, mean_interval

torch = lazy_import("torch")
distributions = lazy_import("fingerpost.distributions")

PRIOR = (1.0, 0.5)
COUNTS = (2, 0, 3, 1, 1)
"""Counts, Poisson with one rate, which has the prior Gamma(1, ½): the posterior is Gamma(1 + Σ, ½ + n)."""

START = (0.5, 2.0)
IMPLICIT, ALONE = "implicit", "implicit, path alone"
REJECTION, SCORE = "accepted noise, corrected", "score function, baseline"


def compare(config: Any, run: Run) -> None:
    """Fits with each estimator from the same start, and states how far each ends from the posterior."""
    curves = {
        name: run.once(f"fit-{name.replace(', ', '-').replace(' ', '-')}", lambda e=estimate: _fit(config, e))
        for name, estimate in ESTIMATORS.items()
    }
    last = {name: [row[-1] for row in rows] for name, rows in curves.items()}
    caption = (
        f"Gamma fitted to the Gamma posterior of a Poisson rate, {config.draws} samples a step, Adam at {config.rate:g}; "
        f"{config.fits} fits each. Divergence of the fit from the posterior, averaged over the last fifth of the steps."
    )
    rows = [[name, *mean_interval(values)] for name, values in last.items()]
    heads = ["gradient", "KL(fit ‖ posterior), nats", "low", "high"]
    run.table("fits", Table(heads, rows, title="Variational fits", caption=caption))
    run.figure("fits", fits_figure(curves, config.steps), title="Variational fits", caption=caption)
    for winner, rival, name, source in (
        (IMPLICIT, REJECTION, "fit-against-rejection", "Figurnov, Mohamed and Mnih (2018), section 6.2"),
        (IMPLICIT, SCORE, "fit-against-score", "Figurnov, Mohamed and Mnih (2018), section 6"),
        (ALONE, IMPLICIT, "path-alone", "Roeder, Wu and Duvenaud (2017), section 3: no noise at the optimum"),
    ):
        gain = mean_interval([b - a for a, b in zip(last[winner], last[rival])])
        run.claim(
            Claim(
                name=name,
                statement=f"A fit ends nearer to the posterior with “{winner}” than with “{rival}”.",
                source=source,
                expected="> 0",
                measured=gain.mean,
                low=0.0,
                interval=gain.interval,
                unit="nats less divergence",
                note=f"{config.fits} fits with each, averaged over the last fifth of the steps",
                decided_by="interval",
            )
        )


def posterior() -> Any:
    """The exact posterior."""
    shape, rate = PRIOR[0] + sum(COUNTS), PRIOR[1] + len(COUNTS)
    return torch.distributions.Gamma(*torch.tensor([shape, rate], dtype=torch.float64))


def _fit(config: Any, estimate: Callable[..., Any]) -> list[list[float]]:
    """Divergences of every fit at 60 times, and last its average over the last fifth of the steps."""
    target = posterior()
    start = torch.tensor(START, dtype=torch.float64).log()
    logs = start[:, None].repeat(1, config.fits)
    first, second = torch.zeros_like(logs), torch.zeros_like(logs)
    history = []
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(config.seed, "fit"))
        for step in range(1, config.steps + 1):
            # Divergence to minimise: Adam (Kingma and Ba, 2015) on the logarithms, all fits at once.
            gradient = estimate(logs, config.draws, target) * logs.exp()
            first, second = 0.9 * first + 0.1 * gradient, 0.999 * second + 0.001 * gradient.square()
            pace = (first / (1 - 0.9**step)) / ((second / (1 - 0.999**step)).sqrt() + 1e-8)
            logs = logs - config.rate * pace
            history.append(torch.distributions.kl_divergence(torch.distributions.Gamma(*logs.exp()), target))
    stacked = torch.stack(history)
    tail = stacked[-max(1, config.steps // 5) :].mean(0)
    shown = stacked[torch.linspace(0, config.steps - 1, 60).long()]
    return torch.cat([shown, tail[None]]).T.tolist()


def _rows(logs: Any, draws: int) -> tuple[Any, Any]:
    shape, rate = logs.exp().unbind()
    return shape.expand(draws, -1), rate.expand(draws, -1)


def _log_ratio(z: Any, shape: Any, rate: Any, target: Any) -> Any:
    return torch.distributions.Gamma(shape, rate).log_prob(z) - target.log_prob(z)


def _implicit(logs: Any, draws: int, target: Any, alone: bool = False) -> Any:
    """By rsample; with `alone`, the density's own parameters are held (Roeder, Wu and Duvenaud, 2017, eq. 8)."""
    shape, rate = (x.clone().requires_grad_() for x in _rows(logs, draws))
    z = distributions.Gamma(shape, rate).rsample()
    held, held_rate = (shape.detach(), rate.detach()) if alone else (shape, rate)
    loss = _log_ratio(z, held, held_rate, target).sum() / draws
    return torch.stack([g.sum(0) for g in torch.autograd.grad(loss, [shape, rate])])


def _rejection(logs: Any, draws: int, target: Any) -> Any:
    """By the accepted noise and its correction."""
    shape, rate = _rows(logs, draws)
    flat = {"concentration": shape.flatten(), "rate": rate.flatten()}
    drawn = paths.rejection(1, corrected=True)(flat, shape.numel())
    return _assembled(drawn, shape, rate, target)


def _score(logs: Any, draws: int, target: Any) -> Any:
    """By the score function; each sample's baseline is the mean of the others', or of the other fits' if it is alone."""
    shape, rate = _rows(logs, draws)
    z = distributions.Gamma(shape, rate).sample()
    value = _log_ratio(z, shape, rate, target)
    if draws > 1:
        value = value - (value.sum(0) - value) / (draws - 1)
    else:
        value = value - (value.sum() - value) / (value.numel() - 1)
    weights = rate.log() - torch.digamma(shape) + z.log(), shape / rate - z
    return torch.stack([(value * w).mean(0) for w in weights])


def _assembled(drawn: Any, shape: Any, rate: Any, target: Any) -> Any:
    z = drawn.z.reshape(shape.shape).requires_grad_()
    leaves = [x.clone().requires_grad_() for x in (shape, rate)]
    value = _log_ratio(z, leaves[0], leaves[1], target)
    slope, *direct = torch.autograd.grad(value.sum(), [z, *leaves])
    found = []
    for name, own in zip(("concentration", "rate"), direct):
        total = own + slope * drawn.path[name].reshape(shape.shape)
        if name in drawn.extra:
            total = total + value.detach() * drawn.extra[name].reshape(shape.shape)
        found.append(total.mean(0))
    return torch.stack(found)


ESTIMATORS: dict[str, Callable[[Any, int, Any], Any]] = {
    IMPLICIT: _implicit,
    ALONE: lambda logs, draws, target: _implicit(logs, draws, target, alone=True),
    REJECTION: _rejection,
    SCORE: _score,
}
