"""What types do to the tensors of a model, measured: the value that ``qxmix measure`` makes, and its file."""
