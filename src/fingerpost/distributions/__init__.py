"""Learning signals through randomness: distributions whose samples carry exact gradients."""

from __future__ import annotations

from fingerpost.distributions import _mixture_kl as _mixture_kl  # registers a divergence
from fingerpost.distributions.base import AbstractImplicit
from fingerpost.distributions.beta import Beta
from fingerpost.distributions.dirichlet import Dirichlet
from fingerpost.distributions.folded_normal import FoldedNormal
from fingerpost.distributions.gamma import Gamma
from fingerpost.distributions.implicit import ImplicitReparam, implicit_rsample
from fingerpost.distributions.mixture import MixtureSameFamily
from fingerpost.distributions.noncentral_chi import NoncentralChi
from fingerpost.distributions.rice import Rice
from fingerpost.distributions.rice_woolfson import RiceWoolfson
from fingerpost.distributions.student_t import StudentT
from fingerpost.distributions.truncated_normal import TruncatedNormal
from fingerpost.distributions.von_mises import VonMises

__all__ = [
    "AbstractImplicit",
    "Beta",
    "Dirichlet",
    "FoldedNormal",
    "Gamma",
    "ImplicitReparam",
    "MixtureSameFamily",
    "NoncentralChi",
    "Rice",
    "RiceWoolfson",
    "StudentT",
    "TruncatedNormal",
    "VonMises",
    "implicit_rsample",
]
