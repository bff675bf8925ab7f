"""How wide vectors are: known without numba, which ``vector`` imports."""

WIDTH = 16
"""Lanes of a vector; divides ``LANES``."""
