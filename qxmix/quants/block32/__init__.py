"""Types with a scale per 32 weights or fewer."""
