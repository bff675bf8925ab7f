"""The type per tensor that loses least within a size."""
