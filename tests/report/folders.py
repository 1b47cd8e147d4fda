"""Run folders for the report's tests, written file by file as docs/architecture.md says."""

from __future__ import annotations

import hashlib
import json
import math
from pathlib import Path
from typing import Any

HOSTILE = """<script>alert("x")</script><img src=x onerror=alert(1)> & "quotes' </style> β → 0 \u2028 ]]>"""


def claim(name: str, **changes: Any) -> dict[str, Any]:
    row = {
        "name": name,
        "statement": f"The {name} claim is what the source says.",
        "source": "Scellier & Bengio 2017, eq. 5",
        "expected": "≥ 0.9",
        "low": 0.9,
        "high": None,
        "measured": 0.97,
        "interval": [0.95, 0.99],
        "unit": "",
        "note": "",
        "holds": True,
        "decided_by": "value",
    }
    return row | changes


def manifest(experiment: str, **changes: Any) -> dict[str, Any]:
    facts = {
        "format": 1,
        "id": f"{experiment}-20261123-101500-ab12",
        "experiment": experiment,
        "title": f"Title of {experiment}",
        "summary": "What it measures, in a sentence.",
        "preset": "quick",
        "seed": 0,
        "config": {"seed": 0, "beta": 0.1, "sizes": [64, 32, 10]},
        "command": ["fingerpost", "run", experiment, "--preset", "quick"],
        "git": {"revision": "0123abcd", "dirty": None},
        "python": "3.11.2",
        "platform": "Linux",
        "packages": {"fingerpost": "0.1.0", "torch": "2.13.0"},
        "hardware": {"cpu": "A CPU", "cores": 2, "memory_bytes": 8 * 2**30, "gpus": []},
        "threads": 2,
        "started": "2026-11-23T10:15:00+00:00",
        "finished": "2026-11-23T10:16:30+00:00",
        "resumed": [],
        "exit": "completed",
    }
    return facts | changes


def block(kind: str, name: str, path: str | None = None, **changes: Any) -> dict[str, Any]:
    row = {
        "kind": kind,
        "name": name,
        "path": path,
        "title": f"Title of {name}",
        "caption": f"Caption of {name}.",
    }
    return row | changes


SVG = """<?xml version="1.0" encoding="utf-8" standalone="no"?>
<!DOCTYPE svg PUBLIC "-//W3C//DTD SVG 1.1//EN" "http://www.w3.org/Graphics/SVG/1.1/DTD/svg11.dtd">
<svg xmlns:xlink="http://www.w3.org/1999/xlink" width="360pt" height="216pt" viewBox="0 0 360 216"
 xmlns="http://www.w3.org/2000/svg" version="1.1">
 <metadata>made by a test</metadata>
 <defs><style type="text/css">*{stroke-linejoin: round}</style>
  <clipPath id="p1"><rect x="0" y="0" width="360" height="216"/></clipPath></defs>
 <g clip-path="url(#p1)"><path id="m1" d="M 10.123456 20.5 L 300 150.000001"
  style="stroke: #0072b2; fill: none"/></g>
 <use xlink:href="#m1" x="5.5" y="0"/>
 <text x="20" y="200" style="font: 12px sans-serif">β → 0</text>
</svg>
"""


def curve_csv(points: int = 5000) -> str:
    rows = ["step,loss,accuracy"]
    rows += [
        f"{step},{2 * math.exp(-step / 900):.6g},{1 - math.exp(-step / 700):.6g}" for step in range(points)
    ]
    return "\n".join(rows) + "\n"


def audit_report(name: str = "FAULT") -> dict[str, Any]:
    figure = {"value": -0.981, "low": -0.99, "high": -0.97}
    fault = {
        "name": "sign",
        "layers": ["h1", "h2"],
        "explained": 0.99,
        "sentence": "They point the opposite way.",
    }
    return {
        "format": 1,
        "verdict": {
            "name": name,
            "reason": "Layers h1 and h2 point the opposite way; −a passes: flip the sign.",
            "faults": [fault] if name == "FAULT" else [],
        },
        "layers": [
            {
                "name": layer,
                "samples": 256,
                "set_aside": 1,
                "figures": {
                    "gamma": figure,
                    "rho": figure,
                    "rho_exact": {"value": 1.0, "low": None, "high": None},
                },
                "verdict": name,
            }
            for layer in ("h1", "h2")
        ],
        "cost": {"ratio": {"value": 31.5, "low": 30.0, "high": 33.0}},
        "settings": {"perturbations": 16, "level": 0.95},
    }


CLAIMS = [
    claim(
        "gamma",
        statement="The fixed credit points along the gradient.",
        measured=0.998,
        interval=[0.997, 0.999],
    ),
    claim(
        "error",
        expected="≤ 5",
        low=None,
        high=5.0,
        measured=12.5,
        interval=[11.0, 14.0],
        unit="%",
        holds=False,
    ),
    claim(
        "order",
        expected="2",
        low=1.8,
        high=2.2,
        measured=1.99,
        interval=None,
        source="https://arxiv.org/abs/1602.05179",
    ),
]

CONTENTS = [
    block("text", "What was measured", caption="A paragraph.\n\nAnother one."),
    block("figure", "angles", "figures/angles.svg"),
    block("table", "angles", "tables/angles.csv"),
    block(
        "curve",
        "loss",
        "tables/loss.csv",
        x="step",
        series=["loss", "accuracy"],
        x_label="step",
        y_label="loss (nats)",
    ),
    block("audit", "buggy", "audits/buggy.json"),
]


def write_run(
    directory: Path,
    experiment: str = "ep-digits",
    *,
    claims: list[Any] | None = None,
    contents: list[Any] | None = None,
    files: dict[str, str] | None = None,
    **changes: Any,
) -> Path:
    """Writes one whole run folder; `changes` go into its manifest, `files` add to or replace its own."""
    texts = {
        "metrics.jsonl": '{"stage": "train", "step": 1, "loss": 0.5}\n',
        "claims.json": json.dumps(CLAIMS if claims is None else claims),
        "contents.json": json.dumps(CONTENTS if contents is None else contents),
        "figures/angles.svg": SVG,
        "tables/angles.csv": "layer,cosine,holds\nh1,0.5,True\nh2,-0.25,False\nh10,,True\n",
        "tables/loss.csv": curve_csv(),
        "audits/buggy.json": json.dumps(audit_report()),
    } | (files or {})
    for name, text in texts.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    digests = {name: hashlib.sha256((directory / name).read_bytes()).hexdigest() for name in texts}
    facts = manifest(experiment, **({"files": digests} | changes))
    (directory / "manifest.json").write_text(json.dumps(facts), encoding="utf-8")
    return directory


def hostile_run(directory: Path) -> Path:
    """A run in which every string tries to leave its place."""
    rows = [claim(HOSTILE, statement=HOSTILE, source=HOSTILE, expected=HOSTILE, unit=HOSTILE, note=HOSTILE)]
    contents = [
        block("text", HOSTILE, title=HOSTILE, caption=HOSTILE),
        block("figure", HOSTILE, "figures/angles.svg", title=HOSTILE, caption=HOSTILE),
        block("table", HOSTILE, "tables/hostile.csv", title=HOSTILE, caption=HOSTILE),
        block(
            "curve",
            HOSTILE,
            "tables/curve.csv",
            title=HOSTILE,
            caption=HOSTILE,
            x="x",
            series=["</script>"],
            y_label=HOSTILE,
        ),
        block("audit", HOSTILE, "audits/hostile.json", title=HOSTILE, caption=HOSTILE),
        block(HOSTILE, HOSTILE),
    ]
    report = audit_report()
    report["verdict"] = {
        "name": HOSTILE,
        "reason": HOSTILE,
        "faults": [{"name": HOSTILE, "sentence": HOSTILE, "layers": [HOSTILE]}],
    }
    report["layers"] = [{"name": HOSTILE, "figures": {HOSTILE: {"value": 1.0}}, "verdict": HOSTILE}]
    quoted = '"' + HOSTILE.replace('"', '""') + '"'
    files = {
        "tables/hostile.csv": f"{quoted},b\n{quoted},nan\n",
        "tables/curve.csv": "x,</script>\n0,nan\n1,2\n",
        "audits/hostile.json": json.dumps(report),
        "figures/angles.svg": SVG.replace("<g ", '<script>alert(1)</script><g onclick="alert(1)" '),
    }
    return write_run(
        directory,
        HOSTILE,
        claims=rows,
        contents=contents,
        files=files,
        title=HOSTILE,
        summary=HOSTILE,
        config={HOSTILE: HOSTILE},
        command=[HOSTILE],
        packages={HOSTILE: HOSTILE},
        id=HOSTILE,
    )
