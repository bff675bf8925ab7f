"""Plans, differences and results as text, Markdown and JSON."""
