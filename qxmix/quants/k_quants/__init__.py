"""The K-quants: super-blocks of 256 weights with linear levels."""
