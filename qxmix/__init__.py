"""Quantize GGUF models by recipes: plan to the byte, then apply."""
