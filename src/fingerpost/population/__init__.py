"""Bayesian inference with populations of neurons: what counts say of a stimulus, and how cues add up."""

from __future__ import annotations

from fingerpost.population.codes.base import AbstractCode, AbstractFamily
from fingerpost.population.codes.exponential import ExponentialFamilyCode
from fingerpost.population.codes.fano import FanoCode
from fingerpost.population.codes.gaussian_noise import GaussianNoiseCode
from fingerpost.population.codes.negative_binomial import NegativeBinomialCode
from fingerpost.population.codes.poisson import GammaGain, PoissonCode
from fingerpost.population.combining import combine, combine_posteriors
from fingerpost.population.fitting import FittedKernel, fit_kernel
from fingerpost.population.kernels import kernel_from_moments, kernel_slope
from fingerpost.population.posterior import Posterior, product_grid
from fingerpost.population.report import Estimate, OptimalityReport, optimality_report
from fingerpost.population.streaming import Moments
from fingerpost.population.tables import CountTable, read_counts
from fingerpost.population.transfer import Transfer, transfer_matrix
from fingerpost.population.tuning import AbstractTuning, GaussianTuning, SigmoidTuning, Tuning, VonMisesTuning

__all__ = [
    "AbstractCode",
    "AbstractFamily",
    "AbstractTuning",
    "CountTable",
    "Estimate",
    "ExponentialFamilyCode",
    "FanoCode",
    "FittedKernel",
    "GammaGain",
    "GaussianNoiseCode",
    "GaussianTuning",
    "Moments",
    "NegativeBinomialCode",
    "OptimalityReport",
    "PoissonCode",
    "Posterior",
    "SigmoidTuning",
    "Transfer",
    "Tuning",
    "VonMisesTuning",
    "combine",
    "combine_posteriors",
    "fit_kernel",
    "kernel_from_moments",
    "kernel_slope",
    "optimality_report",
    "product_grid",
    "read_counts",
    "transfer_matrix",
]
