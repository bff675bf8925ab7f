"""The second reading of a source, written apart from the translation, that the recipe is held to.

``text -> words -> Reading -> types``: what a shell makes of the text (``lexer``, ``script``, ``filters``, ``windows``),
what ``llama-quantize`` makes of the words (``arguments``), and what its engine makes of a model (``decide``).  Nothing
here is imported by the translation, and nothing of the translation is imported here.
"""
