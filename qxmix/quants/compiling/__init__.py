"""How a kernel becomes machine code: a target of numba's with its own steps, instructions and libraries."""
