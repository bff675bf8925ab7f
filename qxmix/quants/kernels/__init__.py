"""Kernels as machine code: which there are, where they are kept, how they are loaded, shipped and compiled ahead."""
