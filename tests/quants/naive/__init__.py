"""Slow scalar encoders, written from the description of each algorithm: the oracles of the kernels."""
