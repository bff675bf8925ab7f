"""Recipes of other tools: read into a neutral form, written as YAML, and proved to decide alike on a model."""
