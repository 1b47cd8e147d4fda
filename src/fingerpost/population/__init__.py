"""Bayesian inference with populations of neurons: what counts say of a stimulus, and how cues add up."""

from __future__ import annotations

from fingerpost.population.codes.base import AbstractCode, AbstractFamily
from fingerpost.population.codes.exponential import ExponentialFamilyCode
from fingerpost.population.codes.poisson import GammaGain, PoissonCode
from fingerpost.population.combining import combine, combine_posteriors
from fingerpost.population.kernels import kernel_from_moments
from fingerpost.population.posterior import Posterior, product_grid
from fingerpost.population.report import Estimate, OptimalityReport, optimality_report
from fingerpost.population.streaming import Moments
from fingerpost.population.tuning import AbstractTuning, GaussianTuning, SigmoidTuning, Tuning, VonMisesTuning

__all__ = [
    "AbstractCode",
    "AbstractFamily",
    "AbstractTuning",
    "Estimate",
    "ExponentialFamilyCode",
    "GammaGain",
    "GaussianTuning",
    "Moments",
    "OptimalityReport",
    "PoissonCode",
    "Posterior",
    "SigmoidTuning",
    "Tuning",
    "VonMisesTuning",
    "combine",
    "combine_posteriors",
    "kernel_from_moments",
    "optimality_report",
    "product_grid",
]
