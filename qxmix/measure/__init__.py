"""Measuring what types do to the tensors of a model: errors of the encoders, losses of the model."""
