"""Imported recipes pass ``plan --strict``: what the source has on its model is not the recipe's fault."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.dialects.test_import import qxmix
from tests.planning.models import write
from tests.planning.zoo import MODELS

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    "options",
    [
        "--custom-q 'attn_v=q8_0,nextn=q6_K,norm=q8_0,blk=iq4_k'",
        "--tensor-type nothing=q8_0 --tensor-type ffn=q4_k",
    ],
)
def test_an_imported_recipe_passes_strict(options: str, tmp_path: Path) -> None:
    script, model, recipe = tmp_path / "mix.sh", write(MODELS["smollm-576"], tmp_path / "m.gguf"), tmp_path / "mix.yaml"
    script.write_text(f"./llama-quantize {options} in.gguf out.gguf Q4_K_M 2>&1 | tee log\n")
    assert "Proved: all" in qxmix("import", script, "--model", model, "-o", recipe).stderr
    assert "rule-unmatched: so is the source" in recipe.read_text()
    qxmix("plan", recipe, model, "--strict")
