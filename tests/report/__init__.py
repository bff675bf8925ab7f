"""Values to text, pictures and pages."""
