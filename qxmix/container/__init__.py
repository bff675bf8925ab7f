"""GGUF itself: headers, output files, shards, importance matrices."""
