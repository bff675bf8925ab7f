"""The I-quants whose codes look up uneven levels."""
