"""TD(1) against supervised learning: the identity audited, and what breaks it: λ < 1, and weights that change on the way."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from fingerpost._lazy import lazy_import
from fingerpost.errors import ConfigError
from fingerpost.experiments import _td_supervised_results as results
from fingerpost.lab import Run, derive_seed

torch = lazy_import("torch")
audit = lazy_import("fingerpost.audit")
td = lazy_import("fingerpost.td")

RULES = ("accumulating", "true online", "network")


@dataclass(frozen=True)
class Config:
    """Settings; the defaults are the full preset.

    Args:
      seed: Seed of sequences, weights and walks.
      sequences: Sequences that are audited and compared.
      length: Observations of the longest.
      features: Numbers of an observation.
      width: Units of the network's hidden layer.
      trials: Random sequences for the identity itself, of any length up to ten times `length`.
      lambdas: λ that are audited.
      alphas: Step sizes of changes within a sequence.
      steps: Steps of gradient descent before the second audit.
      units: Parts of the sequences in an audit.
      sets: Training sets of ten random walks.
      walk_alphas: Step sizes on the walks.
    """

    seed: int = 0
    sequences: int = 256
    length: int = 12
    features: int = 4
    width: int = 12
    trials: int = 400
    lambdas: tuple[float, ...] = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 1.0)
    alphas: tuple[float, ...] = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2)
    steps: int = 300
    units: int = 64
    sets: int = 200
    walk_alphas: tuple[float, ...] = (0.02, 0.04, 0.06, 0.08, 0.12, 0.16, 0.24, 0.32)


PRESETS = {
    "quick": Config(
        sequences=96, trials=100, lambdas=(0.0, 0.3, 0.6, 0.8, 0.9, 1.0), alphas=(0.001, 0.01, 0.05, 0.2), units=32,
        steps=150, sets=40, walk_alphas=(0.04, 0.08, 0.16, 0.32),
    ),
    "full": Config(),
}  # fmt: skip


def check(config: Config) -> None:
    """Raises ConfigError for settings that can't work."""
    if not {0.0, 1.0} <= set(config.lambdas) or not all(0 <= lam <= 1 for lam in config.lambdas):
        raise ConfigError(f"lambdas are {config.lambdas}; expected numbers in [0, 1], 0 and 1 among them")
    if len(config.alphas) < 3 or min((*config.alphas, *config.walk_alphas)) <= 0 or not config.walk_alphas:
        raise ConfigError("alphas are step sizes above 0, at least three of them; walk_alphas at least one")
    if config.units < 8 or config.sequences < config.units:
        raise ConfigError(
            f"sequences={config.sequences}, units={config.units}; an audit needs 8 parts, and a sequence in each"
        )
    if (
        min(config.length, config.features, config.width, config.trials, config.steps) < 1
        or config.length < 2
    ):
        raise ConfigError("features, width, trials and steps must be at least 1, length at least 2")
    if config.sets < 8:
        raise ConfigError(f"sets is {config.sets}; intervals need at least 8 training sets")


def run(config: Config, run: Run) -> None:
    """Measures the identity, audits it by λ, breaks it by online changes, and reads the source's words."""
    identity = run.once("identity", lambda: identities(config))
    reports = audits(config)
    online = run.once("online", lambda: deviations(config))
    walks = run.once("walks", lambda: walk_errors(config))
    asymmetry = asymmetries(config)
    outcome = outcome_dependence(config)
    results.show(config, run, identity, reports, asymmetry, online, walks, outcome)


# what is learned from


def batch(config: Config) -> tuple[Any, Any, Any]:
    """Padded sequences of a slow process in `features` dimensions: x (N, length, d), outcomes (N,), lengths (N,)."""
    generator = torch.Generator().manual_seed(derive_seed(config.seed, "sequences"))
    n, m, d = config.sequences, config.length, config.features
    noise = torch.randn(m, n, d, generator=generator, dtype=torch.float64)
    x = noise.clone()
    for t in range(1, m):
        x[t] = 0.8 * x[t - 1] + 0.6 * noise[t]
    lengths = torch.randint(2, m + 1, (n,), generator=generator)
    x = x.transpose(0, 1) / math.sqrt(d)
    last = x[torch.arange(n), lengths - 1]
    z = torch.tanh(2 * last.sum(1)) + 0.3 * torch.randn(n, generator=generator, dtype=torch.float64)
    return x * (torch.arange(m) < lengths[:, None])[..., None], z, lengths


def cut(part: tuple[Any, Any, Any]) -> list[tuple[Any, Any]]:
    """The sequences of a padded batch."""
    return [(x[:length], z) for x, z, length in zip(part[0], part[1], part[2].tolist())]


def predictor(config: Config, kind: str) -> Any:
    """A linear predictor with a constant, or a network of one hidden layer of tanh."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(config.seed, kind))
        if kind == "linear":
            return torch.nn.Linear(config.features, 1).double()
        layers = (
            torch.nn.Linear(config.features, config.width),
            torch.nn.Tanh(),
            torch.nn.Linear(config.width, 1),
        )
        return torch.nn.Sequential(*layers).double()


def supervised_loss(model: Any, part: tuple[Any, Any, Any]) -> Any:
    """½ Σ_t (z − P_t)² of each sequence, shape (N,)."""
    x, z, lengths = part
    apart = z[:, None] - model(x)[..., 0]
    return (apart.square() * (torch.arange(x.shape[1]) < lengths[:, None])).sum(1) / 2


# the identity


def identities(config: Config) -> dict[str, float]:
    """Largest differences of summed changes, over the sum of the lengths of all changes.

    Returns:
      ``linear`` and ``network``: TD(1) to Widrow–Hoff; ``discounted``: the same with γ < 1 and rewards; ``autograd``: TD(1)
      of the network to autograd's gradient of ½ Σ (z − P_t)².
    """
    generator = torch.Generator().manual_seed(derive_seed(config.seed, "trials"))
    worst: dict[str, float] = dict.fromkeys(("linear", "discounted", "network", "autograd"), 0.0)
    model = predictor(config, "network")
    for _ in range(config.trials):
        m = int(torch.randint(1, 10 * config.length + 1, (), generator=generator))
        x = torch.randn(m, config.features, generator=generator, dtype=torch.float64)
        w = torch.randn(config.features, generator=generator, dtype=torch.float64)
        z, gamma = torch.randn(2, generator=generator, dtype=torch.float64).tolist()
        c = torch.randn(m, generator=generator, dtype=torch.float64)
        extra = {"gamma": 1 / (1 + abs(gamma)), "rewards": c}
        td_1, supervised = td.td_updates(x, z, w, 1.0), td.widrow_hoff_updates(x, z, w)
        worst["linear"] = max(worst["linear"], apart(td_1, supervised))
        td_1, supervised = td.td_updates(x, z, w, 1.0, **extra), td.widrow_hoff_updates(x, z, w, **extra)
        worst["discounted"] = max(worst["discounted"], apart(td_1, supervised))
        td_1, supervised = td.td_updates(x, z, model, 1.0), td.widrow_hoff_updates(x, z, model)
        worst["network"] = max(worst["network"], *(apart(td_1[name], supervised[name]) for name in td_1))
        signal = td.td_gradients(model, x, z, 1.0)
        part = (x[None], torch.tensor([z], dtype=torch.float64), torch.tensor([m]))
        exact = torch.autograd.grad(supervised_loss(model, part).sum(), list(model.parameters()))
        for (name, given), gradient in zip(signal.items(), exact):
            size = supervised[name].flatten(1).norm(dim=1).sum()
            worst["autograd"] = max(worst["autograd"], float((given - gradient).norm() / size))
    return worst


def apart(one: Any, other: Any) -> float:
    """‖Σ one − Σ other‖ over Σ ‖other‖, for changes (m, …) by step."""
    return float((one.sum(0) - other.sum(0)).norm() / other.flatten(1).norm(dim=1).sum())


# the audits


def audits(config: Config) -> dict[tuple[str, str, float], Any]:
    """Reports by predictor, weights (random or trained) and λ; and of the change itself, as it is added, under λ = nan."""
    part, found = batch(config), {}
    for kind in ("linear", "network"):
        model = predictor(config, kind)
        for state in ("random", "trained"):
            if state == "trained":
                train(config, model, part)
            for lam in config.lambdas:
                found[kind, state, lam] = _audit(config, model, part, lam, 1.0)
    found["network", "random", math.nan] = _audit(config, predictor(config, "network"), part, 1.0, -1.0)
    return found


def train(config: Config, model: Any, part: tuple[Any, Any, Any]) -> None:
    """Gradient descent on the mean supervised loss."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    for _ in range(config.steps):
        optimizer.zero_grad()
        supervised_loss(model, part).mean().backward()
        optimizer.step()


def _audit(config: Config, model: Any, part: tuple[Any, Any, Any], lam: float, sign: float) -> Any:
    def signal(model: Any, part: tuple[Any, Any, Any]) -> Any:
        rows = [td.td_gradients(model, x, z, lam) for x, z in cut(part)]
        return {name: sign * torch.stack([row[name] for row in rows]).mean(0) for name in rows[0]}

    return audit.audit_gradients(
        model, signal, part, loss=supervised_loss, units=config.units, perturbations=4, cost=False,
        generator=torch.Generator().manual_seed(config.seed),
    )  # fmt: skip


def asymmetries(config: Config) -> dict[float, float]:
    """‖M − Mᵀ‖ / ‖M‖ by λ, for the linear predictor's offline rule on all sequences: 0 if it descends any function."""
    found = {}
    for lam in config.lambdas:
        M = torch.stack([td.sequence_map(x, z, lam)[0] for x, z in cut(batch(config))]).sum(0)
        found[lam] = float((M - M.T).norm() / M.norm())
    return found


# changes within a sequence


def deviations(config: Config) -> dict[str, dict[str, list[list[float]]]]:
    """By rule and by what it is held against, ‖ΣΔ_TD(1) − ΣΔ_WH‖ / ‖ΣΔ_WH‖ for each α (rows) and sequence.

    TD(1) changes weights at each step; Widrow–Hoff (WH) either at the end (``offline``) or at each step too (``online``).
    """
    sequences, network = cut(batch(config)), predictor(config, "network")
    w = predictor(config, "linear").weight.detach()[0]
    models = {"accumulating": w, "true online": w, "network": network}
    found: dict[str, dict[str, list[list[float]]]] = {rule: {"offline": [], "online": []} for rule in RULES}
    for alpha in config.alphas:
        for rule, model in models.items():
            rows: dict[str, list[float]] = {"offline": [], "online": []}
            for x, z in sequences:
                traces = {"traces": "dutch"} if rule == "true online" else {}
                changed = _total(td.td_updates(x, z, model, 1.0, alpha=alpha, online=True, **traces))
                for against in rows:
                    goal = _total(
                        td.widrow_hoff_updates(x, z, model, alpha=alpha, online=against == "online")
                    )
                    rows[against].append(float((changed - goal).norm() / goal.norm()))
            for against, values in rows.items():
                found[rule][against].append(values)
    return found


def _total(changes: Any) -> Any:
    rows = changes.values() if isinstance(changes, dict) else [changes]
    return torch.cat([row.sum(0).flatten() for row in rows])


def walk_errors(config: Config) -> dict[str, list[list[float]]]:
    """Root mean square errors on Sutton's walk after ten sequences, by rule: for each α (rows) and training set."""
    walk = td.RandomWalk(5)
    walks = walk.sample(torch.Generator().manual_seed(derive_seed(config.seed, "walks")), 10 * config.sets)
    sets = [walks[k : k + 10] for k in range(0, len(walks), 10)]
    rules = {
        "TD(1), weights kept": lambda x, z, w, alpha: td.td_updates(x, z, w, 1.0, alpha=alpha),
        "TD(1), at each step": lambda x, z, w, alpha: td.td_updates(x, z, w, 1.0, alpha=alpha, online=True),
        "TD(1), true online": lambda x, z, w, alpha: td.td_updates(
            x, z, w, 1.0, alpha=alpha, online=True, traces="dutch"
        ),
        "Widrow–Hoff, weights kept": lambda x, z, w, alpha: td.widrow_hoff_updates(x, z, w, alpha=alpha),
        "Widrow–Hoff, at each step": lambda x, z, w, alpha: td.widrow_hoff_updates(
            x, z, w, alpha=alpha, online=True
        ),
    }
    found: dict[str, list[list[float]]] = {}
    for name, rule in rules.items():
        for alpha in config.walk_alphas:
            ends = []
            for rows in sets:
                w = torch.full((5,), 0.5, dtype=torch.float64)
                for x, z, _ in rows:
                    w = w + rule(x, z, w, alpha).sum(0)
                ends.append(w)
            found.setdefault(name, []).append(walk.rms_error(torch.stack(ends)).tolist())
    return found


def outcome_dependence(config: Config) -> dict[str, Any]:
    """What another outcome, z + 1, does to the changes of equation 3, linear with weights kept.

    Returns:
      ``earlier``: the largest change of Δw_1 … Δw_{m−1}; ``shares``: for each sequence, how much their sum changes, over
      its own length; ``cosine``: the least cosine of the printed change with the direction of descent.
    """
    w = predictor(config, "linear").weight.detach()[0]
    earlier, shares, cosines = 0.0, [], []
    for x, z in cut(batch(config)):
        one, other = td.td_updates(x, z, w, 1.0), td.td_updates(x, z + 1, w, 1.0)
        earlier = max(earlier, float((one - other)[:-1].abs().max()))
        shares.append(float((other - one).sum(0).norm() / one.sum(0).norm()))
        given = w.clone().requires_grad_()
        (descent,) = torch.autograd.grad(-(z - x @ given).square().sum() / 2, given)
        cosines.append(float(torch.nn.functional.cosine_similarity(one.sum(0), descent, dim=0)))
    return {"earlier": earlier, "shares": shares, "cosine": min(cosines)}
