"""Audits of credits on one network, shown side by side."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fingerpost._lazy import lazy_import
from fingerpost._table import Table
from fingerpost.lab import Claim, Run, legend_outside, new_figure

torch = lazy_import("torch")
audit = lazy_import("fingerpost.audit")

PATCH = "ep-credit-sign.patch"


def audit_credits(
    chain: Any, x: Any, y: Any, signals: Mapping[str, Any], quick: bool = False
) -> dict[str, Any]:
    """Audits each credit of a chain at its free states, in float64.

    Args:
      chain: A float64 `ResidualChain`.
      x: Inputs (N, …), float64.
      y: Targets.
      signals: Credits by name.
      quick: Whether to run the audit's quick mode.

    Returns:
      One `AuditReport` per signal.
    """
    loss = chain.layered_loss(x, y)
    reports = {}
    for name, signal in signals.items():
        reports[name] = audit.audit(
            lambda point, signal=signal: signal(chain, x, y).layers, loss, loss.point, cost=False, quick=quick
        )
    return reports


def verdict_table(reports: Mapping[str, Any], title: str, caption: str) -> Table:
    """One row per signal: verdict, smallest Γ and ρ over layers, scale at the bottom and top layer."""
    rows = []
    for name, report in reports.items():
        gamma = [layer.figures["gamma"].value for layer in report.layers]
        rho = [layer.figures["rho"].value for layer in report.layers if "rho" in layer.figures]
        scale = [layer.figures["scale"].value for layer in report.layers]
        low = min(gamma, key=abs), min(rho, key=abs) if rho else None
        rows.append([name, str(report.verdict), *low, scale[0], scale[-1]])
    heads = ["signal", "verdict", "weakest Γ", "weakest ρ", "scale, first layer", "scale, last layer"]
    return Table(heads, rows, title=title, caption=caption)


def layers_figure(reports: Mapping[str, Any]) -> Any:
    """Γ and scale per layer for every signal; Γ with its interval."""
    figure, (left, right) = new_figure(1, 2, width=10.4, height=4.8)
    for name, report in reports.items():
        numbers = list(range(1, len(report.layers) + 1))
        gamma = [layer.figures["gamma"] for layer in report.layers]
        (line,) = left.plot(numbers, [f.value for f in gamma], label=name)
        if all(f.low is not None for f in gamma):
            left.fill_between(
                numbers,
                [f.low for f in gamma],
                [f.high for f in gamma],
                color=line.get_color(),
                alpha=0.15,
                linewidth=0,
            )
        right.plot(numbers, [abs(layer.figures["scale"].value) for layer in report.layers])
    left.axhline(0, color="0.45", linewidth=1, linestyle=":", marker="")
    left.set(xlabel="layer", ylabel="Γ: cosine with the true gradient", ylim=(-1.08, 1.08), title="Direction")
    right.set(xlabel="layer", ylabel="length over the gradient's", yscale="log", title="Scale")
    legend_outside(figure, left)
    return figure


def claim_bug_and_fix(run: Run, bug: Any, fix: Any) -> None:
    """The sign bug beside its fix: what the audit says of each."""
    named = {layer for fault in bug.faults if fault.name == "sign" for layer in fault.layers}
    depth = len(bug.layers)
    run.claim(
        Claim(
            name="bug-named",
            statement="The audit names the flipped sign of the credit before the fix, in every layer.",
            source=f"{PATCH}: Γ < 0 without the minus sign",
            expected=f"{depth} of {depth}",
            measured=float(len(named)),
            low=float(depth),
            unit="layers",
            note=f"{bug.verdict}: {bug.verdict.reason}",
        )
    )
    weakest = min((layer.figures["gamma"] for layer in fix.layers), key=lambda figure: figure.value)
    run.claim(
        Claim(
            name="fix-passes",
            statement="With the minus sign the same credit passes: it points the right way in every layer.",
            source=f"{PATCH}: “align with BP grad direction”",
            expected="> 0.5, every layer",
            measured=weakest.value,
            low=0.5,
            interval=None if weakest.low is None else (weakest.low, weakest.high),
            unit="cosine",
            note=f"smallest Γ over layers, 95 % t interval over samples; verdict {fix.verdict}: {fix.verdict.reason}",
            decided_by="interval" if weakest.low is not None else "value",
        )
    )
