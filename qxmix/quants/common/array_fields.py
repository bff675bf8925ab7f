"""Where the fields stand in numba's struct of an array; a test holds them against numba's own description.

Taken out by place they cost one instruction each, where numba's object for the struct copies it to memory first.
"""

from __future__ import annotations

OWNER = 0
"""What counts the references to the memory; null where that is somebody else's."""
N_ITEMS = 2
DATA = 4
"""Pointer to the first element."""
SHAPE = 5
