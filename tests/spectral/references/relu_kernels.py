"""Makes relu_kernels.json: kernels of infinitely wide ReLU networks from neural-tangents and from mpmath.

Made with neural-tangents 0.6.5 in float64 on its own points, and with mpmath 1.3.0 at 60 digits on pairs of points at given
angles, down to 1e-8, where neural-tangents itself has lost half its digits. Run it in an environment with
neural-tangents (it takes a JAX of its time) and mpmath: python relu_kernels.py
"""

import json
import math
from pathlib import Path

import jax
import mpmath as mp
import numpy as np
from neural_tangents import stax

jax.config.update("jax_enable_x64", True)
mp.mp.dps = 60
CASES = [(1, math.sqrt(2), 0.1), (2, 1.0, 0.0), (3, math.sqrt(2), 0.1), (4, 1.5, 0.5), (8, math.sqrt(2), 0.0)]
"""Hidden layers, σ_W, σ_b."""
ANGLES = [0.0, 1e-8, 1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 0.1, 1.0, 2.0, 3.0, 3.14159]


def tangents(points, others, depth, weight_std, bias_std):
    layers = []
    for _ in range(depth):
        layers += [stax.Dense(1, weight_std, bias_std, parameterization="ntk"), stax.Relu()]
    _, _, kernel = stax.serial(*layers, stax.Dense(1, weight_std, bias_std, parameterization="ntk"))
    both = kernel(points, others, ("nngp", "ntk"))
    return {"nngp": np.asarray(both.nngp).tolist(), "ntk": np.asarray(both.ntk).tolist()}


def digits(x, y, depth, weight_std, bias_std):
    """The recursion as printed, in 60 digits, on the float64 points given."""
    x, y = [mp.mpf(value) for value in x], [mp.mpf(value) for value in y]
    weight, bias = mp.mpf(weight_std) ** 2, mp.mpf(bias_std) ** 2

    def inner(u, v):
        return weight * mp.fsum(a * b for a, b in zip(u, v)) / len(u) + bias

    q1, q2, cross = inner(x, x), inner(y, y), inner(x, y)
    ntk = cross
    for _ in range(depth):
        root = mp.sqrt(q1 * q2)
        theta = mp.acos(min(mp.mpf(1), max(mp.mpf(-1), cross / root)))
        cross, dot = (
            weight * (root * mp.sin(theta) + (mp.pi - theta) * cross) / (2 * mp.pi) + bias,
            (mp.pi - theta) / (2 * mp.pi),
        )
        ntk = cross + weight * ntk * dot
        q1, q2 = weight * q1 / 2 + bias, weight * q2 / 2 + bias
    return float(cross), float(ntk)


def main():
    random = np.random.default_rng(0)
    points, others = random.standard_normal((7, 3)), random.standard_normal((5, 3))
    table = {"x1": points.tolist(), "x2": others.tolist(), "neural_tangents": [], "mpmath": []}
    for depth, weight_std, bias_std in CASES:
        case = {"depth": depth, "weight_std": weight_std, "bias_std": bias_std}
        table["neural_tangents"].append(case | tangents(points, others, depth, weight_std, bias_std))
        for angle in ANGLES:
            for length in (1.0, 1.7):
                x, y = [1.2, 0.0], [1.2 * length * math.cos(angle), 1.2 * length * math.sin(angle)]
                nngp, ntk = digits(x, y, depth, weight_std, bias_std)
                row = {"angle": angle, "x": x, "y": y, "nngp": nngp, "ntk": ntk}
                table["mpmath"].append(case | row)
    path = Path(__file__).with_suffix(".json")
    path.write_text(json.dumps(table) + "\n")


main()
