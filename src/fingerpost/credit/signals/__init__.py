"""Learning signals through depth: one file each, one interface in `base`."""

from __future__ import annotations

from fingerpost.credit.signals.backprop import Backprop
from fingerpost.credit.signals.base import AbstractCredit, Credits
from fingerpost.credit.signals.direct_feedback import DirectFeedbackAlignment
from fingerpost.credit.signals.displacement import DisplacementCredit
from fingerpost.credit.signals.error import ErrorCredit
from fingerpost.credit.signals.feedback import FeedbackAlignment
from fingerpost.credit.signals.forward_gradient import ForwardGradient

__all__ = [
    "AbstractCredit",
    "Backprop",
    "Credits",
    "DirectFeedbackAlignment",
    "DisplacementCredit",
    "ErrorCredit",
    "FeedbackAlignment",
    "ForwardGradient",
]
