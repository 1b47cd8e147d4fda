"""A user's file with learning signals: a right one, a flipped one, and functions that return other things."""

from __future__ import annotations

import torch
from sibling import TARGET

calls: list[int] = []


def loss(point):
    return ((point - TARGET) ** 2).sum(dim=1)


def _point():
    return torch.randn(64, 4, dtype=torch.float64)


def right():
    return (lambda point: 2 * (point - TARGET)), loss, _point()


def flipped():
    return (lambda point: -2 * (point - TARGET)), loss, _point()


def two_things():
    return loss, _point()


def nothing():
    pass


def signal_is_a_tensor():
    return _point(), loss, _point()


def fails():
    return [1, 2][5]


def wrong_shape():
    return (lambda point: point[:, :2]), loss, _point()
