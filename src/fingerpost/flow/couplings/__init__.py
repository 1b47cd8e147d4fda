"""Couplings of noise with data, one file each."""

from fingerpost.flow.couplings.base import AbstractCoupling
from fingerpost.flow.couplings.exact_ot import ExactOT
from fingerpost.flow.couplings.independent import Independent
from fingerpost.flow.couplings.prefetched import Prefetched
from fingerpost.flow.couplings.sinkhorn import Sinkhorn

__all__ = ["AbstractCoupling", "ExactOT", "Independent", "Prefetched", "Sinkhorn"]
