"""The recipe language: loading, rules and selectors, dialects."""
