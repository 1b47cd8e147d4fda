"""Which frequencies a learning signal can teach: tangent kernels, Fourier features, linearised training."""

from __future__ import annotations

from fingerpost.spectral.analytic import relu_nngp, relu_ntk
from fingerpost.spectral.dynamics import Modes, max_learning_rate, modes, predict
from fingerpost.spectral.empirical import empirical_ntk, ntk_matvec
from fingerpost.spectral.encodings import FourierFeatures, NyquistWarning
from fingerpost.spectral.grid import GridSolution, StationaryNTK
from fingerpost.spectral.images import (
    ImageFit,
    PixelSplit,
    fit_image,
    pixel_centres,
    psnr,
    read_image,
    render,
    split_pixels,
)
from fingerpost.spectral.linear import LinearizedModule, linearize
from fingerpost.spectral.nets import CoordinateMLP, NTKLinear
from fingerpost.spectral.regressor import KernelRegressor
from fingerpost.spectral.selection import Selection, select_p, select_sigma

__all__ = [
    "CoordinateMLP",
    "FourierFeatures",
    "GridSolution",
    "ImageFit",
    "KernelRegressor",
    "LinearizedModule",
    "Modes",
    "NTKLinear",
    "NyquistWarning",
    "PixelSplit",
    "Selection",
    "StationaryNTK",
    "empirical_ntk",
    "fit_image",
    "linearize",
    "max_learning_rate",
    "modes",
    "ntk_matvec",
    "pixel_centres",
    "predict",
    "psnr",
    "read_image",
    "relu_nngp",
    "relu_ntk",
    "render",
    "select_p",
    "select_sigma",
    "split_pixels",
]
