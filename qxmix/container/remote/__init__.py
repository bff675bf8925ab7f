"""Headers of models on the web: ``https://...`` and ``hf://owner/repo/file.gguf[@revision]``, read by ranges.

A header is at the start of its file, and how long it is shows only while it is read.  So the first megabyte is asked
for, then up to eight, then as much again as is there, until the parser has seen the whole header.  What was read is
kept on disk with the server's etag and used again as long as that is the same.
"""
