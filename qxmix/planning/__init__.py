"""How a recipe and a header become a plan: facts, gate, rules, fallback, importance, sizes; one file each."""
