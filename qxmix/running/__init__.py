"""What running a model takes: weights, cache and an estimate of the rest, on which device, and the flags for it."""
