"""The audit's report: a verdict, a table of layers, the faults, the cost; as text, HTML and JSON."""

from __future__ import annotations

import html
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from fingerpost._table import Table, format_number
from fingerpost.audit._cost import Cost
from fingerpost.audit._statistics import Figure
from fingerpost.audit._verdict import Fault, Verdict
from fingerpost.errors import InvalidValueError

_FORMAT = 1

#: Figures of a layer in the order of the table: key, heading, and what it means.
FIGURES: dict[str, tuple[str, str]] = {
    "gamma": ("Γ", "mean over samples of the cosine with the true gradient; Student t"),
    "batch_gamma": ("batch Γ", "cosine of the batch-stacked covectors; bootstrap by sample"),
    "rho": ("ρ", "correlation of ⟨a, δ⟩ with ½[L(x+δ) − L(x−δ)]; bootstrap clustered by sample"),
    "rho_exact": (
        "ρ of exact",
        "the instrument's reading of the exact gradient; below 0.999 it can't be trusted",
    ),
    "probe": (
        "probe",
        "measured over predicted change of the loss along ±a; 1 for the exact gradient; Student t",
    ),
    "scale": ("scale", "⟨A, G⟩ / ⟨G, G⟩; bootstrap by sample"),
    "norm_slope": ("slope", "slope of log‖a‖ on log‖g‖ over samples; Student t"),
    "deviation": ("‖A−G‖/‖G‖", "relative deviation of the stacked covectors"),
    "null": ("null Γ", "standard deviation of Γ were the signal seen through a fixed random rotation"),
    "bias": ("bias²", "squared bias over ‖g‖², from split halves of the redraws; Student t"),
    "variance": ("variance", "variance over ‖g‖²; Student t"),
    "snr": ("SNR", "‖E a‖² over the variance"),
}


@dataclass(frozen=True)
class Layer:
    """One leaf of the point.

    Args:
      name: The leaf's name.
      samples: Samples that entered the statistics.
      set_aside: Samples left out because their true gradient vanishes.
      verdict: What this leaf shows.
      figures: Measured figures by key (see `FIGURES`).
    """

    name: str
    samples: int
    set_aside: int
    verdict: str
    figures: Mapping[str, Figure]


class Layers(tuple[Layer, ...]):
    """The layers of a report; prints as a table, index by position or name."""

    def __getitem__(self, key: Any) -> Any:
        if isinstance(key, str):
            for layer in self:
                if layer.name == key:
                    return layer
            raise KeyError(f"no layer {key!r}; the layers are {', '.join(layer.name for layer in self)}")
        return super().__getitem__(key)

    def to_table(self) -> Table:
        """One row per layer; an interval stands in brackets behind its value."""
        present = [key for key in FIGURES if any(key in layer.figures for layer in self)]
        rows = []
        for layer in self:
            cells = [_cell(layer.figures.get(key)) for key in present]
            rows.append([layer.name, layer.verdict, layer.samples, layer.set_aside, *cells])
        return Table(["layer", "verdict", "n", "set aside", *(FIGURES[key][0] for key in present)], rows)

    def __str__(self) -> str:
        return self.to_table().to_text()

    def _repr_html_(self) -> str:
        return self.to_table().to_html()


def _cell(figure: Figure | None) -> str:
    if figure is None or math.isnan(figure.value):
        return "–"
    value = _short(figure.value)
    if figure.low is None or figure.high is None:
        return value
    low, high = _short(figure.low), _short(figure.high)
    return value if low == high == value else f"{value} [{low}, {high}]"


def _short(value: float) -> str:
    return f"{value:.3f}" if 0.0095 < abs(value) < 10 or value == 0 else format_number(float(value), 2)


@dataclass(frozen=True)
class AuditReport:
    """What an audit found.

    Args:
      verdict: EXACT, ALIGNED, UNBIASED_NOISY, BIASED, NULL, FAULT, INSTRUMENT_FAIL or INSUFFICIENT, with the reason.
      layers: A table with one row per leaf of the point.
      overall: Figures of all leaves together, by key.
      cost: Ratios to one exact gradient, or None where it was not measured.
      settings: What the audit was run with.
    """

    verdict: Verdict
    layers: Layers
    overall: Mapping[str, Figure] = field(default_factory=dict)
    cost: Cost | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def passed(self) -> bool:
        """Whether the signal may be trained with: EXACT, ALIGNED or UNBIASED_NOISY."""
        return self.verdict.passed

    @property
    def faults(self) -> tuple[Fault, ...]:
        """Named deviations, worst first; those that still descend (weightings) included."""
        return self.verdict.faults

    def __str__(self) -> str:
        lines = [f"{self.verdict}: {self.verdict.reason}", "", str(self.layers)]
        if self.overall:
            lines.append(
                "all layers: "
                + ", ".join(f"{FIGURES.get(k, (k,))[0]} {_cell(f)}" for k, f in self.overall.items())
            )
        if self.cost is not None:
            low, middle, high = self.cost.time
            lines.append(
                f"cost: {middle:.2f} exact gradients in time [{low:.2f}, {high:.2f}], {self.cost.memory:.2f} in memory"
            )
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        colour = "#00695c" if self.passed else "#b3261e"
        head = f'<p><strong style="color:{colour}">{html.escape(str(self.verdict))}</strong>: '
        return f"{head}{html.escape(self.verdict.reason)}</p>{self.layers._repr_html_()}"

    def to_json(self) -> str:
        """Serialises; NaN becomes null. `from_json` is the way back."""
        data = {
            "format": _FORMAT,
            "verdict": asdict(self.verdict),
            "layers": [{**asdict(layer), "figures": _figures_out(layer.figures)} for layer in self.layers],
            "overall": _figures_out(self.overall),
            "cost": None if self.cost is None else asdict(self.cost),
            "settings": dict(self.settings),
            "legend": {key: list(texts) for key, texts in FIGURES.items()},
        }
        return json.dumps(_finite(data), indent=1, ensure_ascii=False, allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> AuditReport:
        """Reads what `to_json` wrote.

        Raises:
          InvalidValueError: If it is no audit report, or of another format.
        """
        try:
            data = json.loads(text)
            if data["format"] != _FORMAT:
                raise InvalidValueError(
                    f"audit report of format {data['format']!r}; this version reads {_FORMAT}"
                )
            verdict = data["verdict"]
            faults = tuple(Fault(**{**f, "layers": tuple(f["layers"])}) for f in verdict["faults"])
            layers = Layers(
                Layer(**{**row, "figures": _figures_in(row["figures"])}) for row in data["layers"]
            )
            cost = (
                None
                if data["cost"] is None
                else Cost(**{**data["cost"], "time": tuple(data["cost"]["time"])})
            )
            return cls(
                Verdict(verdict["name"], verdict["reason"], faults),
                layers,
                _figures_in(data["overall"]),
                cost,
                data["settings"],
            )
        except (KeyError, TypeError, json.JSONDecodeError) as error:
            raise InvalidValueError(f"this is no audit report: {error!r}") from error


def _figures_out(figures: Mapping[str, Figure]) -> dict[str, Any]:
    return {key: asdict(figure) for key, figure in figures.items()}


def _figures_in(data: Mapping[str, Any]) -> dict[str, Figure]:
    return {
        key: Figure(float("nan") if row["value"] is None else row["value"], row["low"], row["high"])
        for key, row in data.items()
    }


def _finite(data: Any) -> Any:
    if isinstance(data, dict):
        return {key: _finite(value) for key, value in data.items()}
    if isinstance(data, (list, tuple)):
        return [_finite(value) for value in data]
    if isinstance(data, float) and not math.isfinite(data):
        return None
    return data
