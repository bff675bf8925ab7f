"""The name of an output that was given none: what the model is called, and the recipe in place of its encoding."""

from __future__ import annotations

import re

from qxmix.planning.model import Plan

_SHARD = re.compile(r"-\d{5}-of-\d{5}$")
_ENCODING = re.compile(
    r"[-._ ](?:b?fp?(?:16|32)|(?:ud-)?(?:i?q|tq)\d(?:_[a-z0-9]+)*|mxfp4(?:_moe)?|nvfp4)$", re.IGNORECASE
)
_FORBIDDEN = re.compile(r"[^\w.+-]+")
_BLOB = re.compile(r"(?:sha256[-:])?[0-9a-f]{40,64}", re.IGNORECASE)
"""A file in a download cache is named by its digest."""
_NO_NAME = {"model", "ggml-model", ""}
"""File stems that say nothing; the model's own name is better."""


def default_name(plan: Plan) -> str:
    """``SmolLM2-135M-F16.gguf`` with a recipe named ``Q4_K_M`` to ``SmolLM2-135M-Q4_K_M.gguf``."""
    stem = _stem(plan.header.path.name)
    if stem in _NO_NAME or _BLOB.fullmatch(stem):
        name = plan.header.get("general.name")
        stem = _stem(_slug(name)) if isinstance(name, str) and _slug(name) else "model"
    recipe = _slug(plan.recipe.name) or "quantized"
    # A recipe that is for this model has the model's name in its own.
    if recipe.lower().startswith(f"{stem.lower()}-"):
        return f"{recipe}.gguf"
    return f"{stem}-{recipe}.gguf"


def _stem(name: str) -> str:
    stem = _SHARD.sub("", re.sub(r"\.gguf$", "", name, flags=re.IGNORECASE))
    return _ENCODING.sub("", stem)


def _slug(text: str) -> str:
    return _FORBIDDEN.sub("-", text).strip("-.")
