"""Networks that are velocity fields, v(t, x) or v(t, x, condition)."""

from fingerpost.flow.nets.embedding import ClassEmbedding, TimeEmbedding
from fingerpost.flow.nets.gaussian import GaussianStart
from fingerpost.flow.nets.mlp import FlowMLP
from fingerpost.flow.nets.unet import UNet

__all__ = ["ClassEmbedding", "FlowMLP", "GaussianStart", "TimeEmbedding", "UNet"]
