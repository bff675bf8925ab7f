"""The trellis types, whose codes are states of a random number generator."""
