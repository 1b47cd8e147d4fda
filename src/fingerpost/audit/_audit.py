"""`audit`: any signal against the true gradient of a loss at a point."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from fingerpost.audit._cost import measure_cost
from fingerpost.audit._figures import Measured, layer_figures, overall_figures
from fingerpost.audit._instrument import on_plateau, perturb, probe
from fingerpost.audit._layered import Chain, LayeredLoss
from fingerpost.audit._point import Leaves, flatten
from fingerpost.audit._problem import Problem, call_signal
from fingerpost.audit._report import AuditReport, Layer, Layers
from fingerpost.audit._state import modules_kept, random_states_kept, reachable_modules
from fingerpost.audit._statistics import Figure, Resampler
from fingerpost.audit._templates import Evidence
from fingerpost.audit._verdict import Redraws, Verdict, conclude, judge, layers_text
from fingerpost.errors import InvalidTypeError, InvalidValueError

SAMPLES = 256
QUICK_SAMPLES = 64
REDRAWS = 32
INSTRUMENT_FLOOR = 0.999
VANISHING = 1e-13

Costs = tuple[Callable[[], Any], Callable[[], Any]]


@dataclass(frozen=True)
class Settings:
    """What an audit is run with; see `audit`."""

    samples: int = SAMPLES
    perturbations: int = 16
    redraws: int = 0
    level: float = 0.95
    quick: bool = False
    cost: bool = True
    double: bool = True

    def __post_init__(self) -> None:
        if self.samples < 1 or self.perturbations < 1:
            raise InvalidValueError(
                f"n={self.samples}, perturbations={self.perturbations}: both must be at least 1"
            )
        if self.redraws < 0 or self.redraws == 1:
            raise InvalidValueError(
                f"redraws={self.redraws}: give 0, or at least 2 (32 or more tell bias from noise)"
            )
        if not 0.5 <= self.level < 1:
            raise InvalidValueError(f"level={self.level}: a confidence level lies in [0.5, 1), such as 0.95")


def audit(
    signal: Callable[[Any], Any],
    loss: Callable[[Any], Tensor],
    point: Any,
    *,
    reference: Callable[[Any], Any] | None = None,
    n: int | None = None,
    perturbations: int = 16,
    redraws: int = 0,
    level: float = 0.95,
    generator: torch.Generator | None = None,
    quick: bool = False,
    cost: bool = True,
    per_sample: bool | None = None,
    previous: Any = None,
    double: bool = True,
) -> AuditReport:
    """Says of a learning signal whether it points the way of the true gradient, and if not, what is wrong with it.

    The convention is the gradient's: a signal points towards *increase* of the loss (their *sum*, if it is per sample).

    Args:
      signal: Maps a point to a covector: a pytree of the point's structure and shapes.
      loss: Maps a point to one value per sample, (N,), or one number. A `LayeredLoss` is also checked as a chain of blocks.
      point: A tensor, or a list, tuple or dictionary of tensors: activations (N, …) per layer, parameters, ….
      reference: Maps a point to the exact gradient; autograd of the loss unless given.
      n: At most this many samples enter the statistics: 256 unless given, 64 in quick mode.
      perturbations: Antithetic random perturbations for ρ (none in quick mode).
      redraws: Calls of a stochastic signal, for bias, variance and SNR; if two calls differ, a full audit makes 32 itself.
      level: Confidence level of the intervals.
      generator: Source of the audit's own randomness; a fixed seed unless given.
      quick: Two evaluations along the signal in place of random perturbations, analytic intervals, 64 samples.
      cost: Whether to time the signal.
      per_sample: Whether the first axis of every leaf counts samples; decided by measurement unless given.
      previous: The point of the previous step, to recognise stale activations or parameters by.
      double: Whether the loss is evaluated in float64 whatever its dtype; turn off only to see why it is on.

    Returns:
      The report. Every module that signal or loss hold, and all random states, are left as they were, also after errors.

    Raises:
      ShapeError, InvalidTypeError, InvalidValueError, NumericalError: For a signal of the wrong shape, detached or NaN, or
        a loss that ignores the point; the message names the leaf.

    Example:
      >>> import torch
      >>> x = torch.randn(64, 5, generator=torch.Generator().manual_seed(0))
      >>> print(audit(lambda x: -2 * x, lambda x: x.square().sum(1), x, cost=False).verdict)
      FAULT(sign, the signal)
    """
    samples = n if n is not None else QUICK_SAMPLES if quick else SAMPLES
    settings = Settings(samples, perturbations, redraws, level, quick, cost, double)
    leaves = _checked(signal, loss, point)
    before = _earlier(previous, leaves)
    with random_states_kept(), modules_kept(reachable_modules(signal, loss, reference)):
        rows = True if per_sample is None and _is_layered(loss, leaves) else per_sample
        problem = Problem(loss, leaves, rows, double)
        run = Audit(leaves, problem, settings, generator, problem.exact(reference))
        run.chain, run.previous = _chain(loss, problem, run.gradient), before
        return run.report(lambda: call_signal(signal, leaves), _costs(signal, loss, leaves) if cost else None)


def _checked(signal: Any, loss: Any, point: Any) -> Leaves:
    check_callable(signal, "signal")
    check_callable(loss, "loss")
    return flatten(point)


def _earlier(previous: Any, leaves: Leaves) -> Sequence[Tensor] | None:
    if previous is None:
        return None
    before = flatten(previous).tensors
    if [t.shape for t in before] != [t.shape for t in leaves.tensors]:
        raise InvalidValueError(
            "previous has other leaves than point; give the same tensors, one step earlier"
        )
    return before


def _is_layered(loss: Any, leaves: Leaves) -> bool:
    """Whether the loss shows its blocks, one for each leaf: then the leaves have one row per sample."""
    return isinstance(loss, LayeredLoss) and len(loss.blocks) == len(leaves.tensors)


def _chain(loss: Any, problem: Problem, gradient: Sequence[Tensor]) -> Chain | None:
    if not problem.per_sample or not _is_layered(loss, problem.leaves):
        return None
    return Chain(loss, problem, gradient)


def _costs(signal: Callable[[Any], Any], loss: Callable[[Any], Tensor], leaves: Leaves) -> Costs:
    """The signal and one exact gradient, both in the point's own precision, ready to be timed."""

    def fresh() -> list[Tensor]:
        return [t.detach().clone().requires_grad_() for t in leaves.tensors]

    def exact() -> Any:
        point = fresh()
        with torch.enable_grad():
            total = loss(leaves.rebuild(point)).sum()
        return torch.autograd.grad(total, point, allow_unused=True)

    return (lambda: signal(leaves.rebuild(fresh()))), exact


class Audit:
    """One audit under way: draws, measures, judges.

    Args:
      leaves: The point.
      problem: The loss there.
      settings: What to run with.
      generator: Source of the audit's own randomness.
      gradient: The exact gradient, rows first.
    """

    def __init__(
        self,
        leaves: Leaves,
        problem: Problem,
        settings: Settings,
        generator: torch.Generator | None,
        gradient: Sequence[Tensor],
    ) -> None:
        self.leaves, self.problem, self.settings = leaves, problem, settings
        self.gradient = gradient
        self.generator = generator or torch.Generator().manual_seed(0)
        self.chain: Chain | None = None
        self.previous: Sequence[Tensor] | None = None
        self.plateau = 1.0
        self.reference = [self._rows(g) for g in gradient]
        largest = max(float(g.norm(dim=1).max()) for g in self.reference)
        self.kept = [self._usable(g, largest) for g in self.reference]

    def report(self, draw: Callable[[], list[Tensor]], costs: Costs | None) -> AuditReport:
        """Measures and judges what `draw` returns: one tensor per leaf, rows first where there are rows."""
        draws = self._draws(draw)
        mean = [torch.stack(parts).mean(0) for parts in zip(*draws)]
        repeats = 1 if self.settings.quick else 3
        cost = None if costs is None else measure_cost(*costs, repeats=repeats)
        measured = self._measure(mean, draws)
        evidence = self._evidence(mean)
        resampler = Resampler(self.generator)
        figures = [layer_figures(m, self.settings.level, resampler, self.settings.quick) for m in measured]
        redraws = Redraws([f["bias"] for f in figures]) if len(draws) > 1 else None
        alive = [bool(kept.any()) for kept in self.kept]
        findings = judge(evidence, alive, self._tolerance(), self.settings.level, redraws)
        verdict = self._instrument_verdict(figures) or conclude(evidence, findings, self.settings.level)
        layers = Layers(
            Layer(name, m.signal.shape[0], m.set_aside, f.label, {**figure, **_direction_figures(f)})
            for name, m, f, figure in zip(self.leaves.names, measured, findings, figures)
        )
        overall = overall_figures(measured, self.settings.level, resampler, self.settings.quick)
        return AuditReport(verdict, layers, overall, cost, self._settings_out(len(draws)))

    def _rows(self, covector: Tensor) -> Tensor:
        samples = self.problem.samples
        return covector.double().cpu().reshape(samples, -1)[: self.settings.samples]

    def _usable(self, reference: Tensor, largest: float) -> Tensor:
        """Rows whose true gradient doesn't vanish: against its leaf's, at the signal's precision; against all, at 1e-13."""
        norms = reference.norm(dim=1)
        resolution = max(torch.finfo(t.dtype).eps for t in self.leaves.tensors)
        return norms > max(10 * resolution * float(norms.max()), VANISHING * largest)

    def _tolerance(self) -> float:
        """Relative deviation up to which a signal counts as exact: √ε of its own precision."""
        return max(torch.finfo(t.dtype).eps for t in self.leaves.tensors) ** 0.5

    def _draws(self, draw: Callable[[], list[Tensor]]) -> list[list[Tensor]]:
        def once() -> list[Tensor]:
            return [self._rows(a) for a in draw()]

        wanted = self.settings.redraws
        draws = [once()]
        if wanted == 0 and not self.settings.quick:
            second = once()
            if any(not torch.equal(a, b) for a, b in zip(draws[0], second)):
                draws.append(second)
                wanted = REDRAWS
        while len(draws) < wanted:
            draws.append(once())
        return draws

    def _measure(self, mean: Sequence[Tensor], draws: list[list[Tensor]]) -> list[Measured]:
        readings: list[Any] = [None] * len(mean)
        whole = [self._whole(a) for a in mean], [self._whole(g) for g in self.reference]
        if not self.settings.quick:
            readings, self.plateau = perturb(
                self.problem, *whole, self.settings.perturbations, self.generator
            )
        probes = probe(self.problem, whole[0])
        out = []
        for i, (a, g, kept) in enumerate(zip(mean, self.reference, self.kept)):
            rows = [draw[i][kept] for draw in draws] if len(draws) > 1 else []
            out.append(Measured(a[kept], g[kept], kept, readings[i], probes[i], rows))
        return out

    def _whole(self, rows: Tensor) -> Tensor:
        """Rows padded back to the batch's size: perturbations run on the whole batch."""
        missing = self.problem.samples - rows.shape[0]
        return torch.cat([rows, rows.new_zeros(missing, rows.shape[1])]) if missing else rows

    def _evidence(self, mean: Sequence[Tensor]) -> Evidence:
        alive = [kept for kept in self.kept if kept.any()] or self.kept
        together = torch.stack(alive).all(0)  # templates compare layers row by row
        signal, reference = (tuple(rows[together] for rows in side) for side in (mean, self.reference))

        def rows(values: Sequence[Tensor | None]) -> list[Tensor | None]:
            return [None if v is None else self._rows(v)[together] for v in values]

        def mutated(mode: TorchFunctionMode) -> list[Tensor | None] | None:
            found = self.problem.differentiate([mode])
            return rows(found) if getattr(mode, "met", 1) else None

        return Evidence(
            names=self.leaves.names,
            signal=signal,
            reference=reference,
            batch=self.problem.losses.numel(),
            separate=bool(self.problem.per_sample),
            rows=rows,
            mutated=mutated,
            chain=self.chain,
            previous=self._at_previous if self.previous is not None else None,
        )

    def _at_previous(self) -> Sequence[Tensor | None]:
        assert self.previous is not None
        if self.chain is not None:
            return self.chain.stale(self.previous)
        return self.problem.differentiate(at=self.previous)

    def _instrument_verdict(self, figures: Sequence[Any]) -> Verdict | None:
        poor = [
            name
            for name, figure in zip(self.leaves.names, figures)
            if "rho_exact" in figure and not figure["rho_exact"].value >= INSTRUMENT_FLOOR
        ]
        if poor:
            worst = min(f["rho_exact"].value for f in figures if "rho_exact" in f)
            reason = (
                f"{layers_text(poor)}: differences of the loss and the reference disagree (ρ of the reference "
                f"{worst:.4f}, at least {INSTRUMENT_FLOOR} is needed): the loss is too rough or too coarse in "
                "rounding there, or the reference is wrong; nothing can be said of the signal"
            )
            return Verdict("INSTRUMENT_FAIL", reason)
        if not on_plateau(self.plateau):
            reason = (
                f"slopes of the loss at step sizes 1e-4, 1e-3 and 1e-2 disagree (correlation {self.plateau:.4f}): no "
                "plateau, the loss is too rough there; nothing can be said of the signal"
            )
            return Verdict("INSTRUMENT_FAIL", reason)
        return None

    def _settings_out(self, draws: int) -> dict[str, Any]:
        settings = self.settings
        return {
            "n": settings.samples,
            "perturbations": 0 if settings.quick else settings.perturbations,
            "redraws": draws if draws > 1 else 0,
            "level": settings.level,
            "mode": "quick" if settings.quick else "full",
            "per_sample": bool(self.problem.per_sample),
            "precision": "float64" if settings.double else "the point's own",
        }


def _direction_figures(finding: Any) -> dict[str, Any]:
    return {"deviation": Figure(finding.deviation), "null": Figure(finding.null)}


def check_callable(value: Any, what: str) -> None:
    """Raises InvalidTypeError unless `value` can be called."""
    if not callable(value):
        raise InvalidTypeError(f"the {what} is a {type(value).__name__}; expected a function of the point")
