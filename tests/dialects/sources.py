"""Recipes as people post them."""

from __future__ import annotations

GLM_RULES = r"""
# Attention: first 3 dense layers, then the rest
blk\.(0|1|2)\.attn_q.*=q8_0
blk\.(0|1|2)\.attn_k.*=q8_0
blk\.(0|1|2)\.attn_v.*=q8_0
blk\.(0|1|2)\.attn_output.*=q8_0
blk\..*\.attn_q.*=iq5_ks
blk\..*\.attn_k.*=q8_0
blk\..*\.attn_v.*=q8_0
blk\..*\.attn_output.*=iq5_ks

# Feed forward, and "experts"
blk\..*\.ffn_down\.weight=iq5_ks
blk\..*\.ffn_(gate|up)\.weight=iq5_ks
blk\..*\.ffn_down_shexp\.weight=iq5_ks
blk\..*\.ffn_(gate|up)_shexp\.weight=iq5_ks
blk\..*\.ffn_down_exps\.weight=iq4_kss
blk\..*\.ffn_(gate|up)_exps\.weight=iq3_ks
blk\..*\.nextn\.embed_tokens\.weight=iq4_kss
blk\..*\.nextn\.shared_head_head\.weight=iq4_kss
blk\..*\.nextn\.eh_proj\.weight=q8_0
token_embd\.weight=iq4_k
output\.weight=iq6_k
"""

GLM_SCRIPT = rf"""#!/usr/bin/env bash

custom='{GLM_RULES}'

custom=$(
  echo "$custom" | grep -v '^#' | \
  sed -Ez 's:\n+:,:g;s:,$::;s:^,::'
)

#numactl -N 0 -m 0 \
numactl -N 1 -m 1 \
./build/bin/llama-quantize \
    --custom-q "$custom" \
    #--dry-run \
    --imatrix /models/imatrix-GLM-4.6-BF16.dat \
    /models/GLM-160x21B-4.6-BF16-00001-of-00015.gguf \
    /models/GLM-4.6-IQ3_KS.gguf \
    IQ3_KS \
    192
"""


def nux_script() -> str:
    """DeepSeek-V3 in bands of layers, interleaved types, the embeddings and output by flags."""
    rules = [r"token_embd\.weight", r"output\.weight", r"output_norm\.weight", r"blk\.[0-2]\..*"]
    for part in (
        r"attn_.*",
        r"ffn_norm\.weight",
        r"exp_probs_b\.bias",
        r"ffn_down_shexp\.weight",
        r"ffn_(gate|up)_shexp\.weight",
    ):
        rules += [rf"blk\.{band}\.{part}" for band in ("[3-9]", "[1-5][0-9]", "60")]
    lines = [f"{rule}=q8_0" for rule in rules]
    for bands, kind in ((("[3-9]", "1[0-9]"), "q5"), (("2[0-9]", "3[0-9]"), "q4"), (("4[0-9]", "5[0-9]", "60"), "q3")):
        for part in (r"ffn_down_exps\.weight", r"ffn_(gate|up)_exps\.weight"):
            lines += [rf"blk\.{band}\.{part}={kind}_k_r4" for band in bands]
    return (
        'custom="\n' + "\n".join(lines) + '\n"\n'
        "./llama-quantize --imatrix x.dat --token-embedding-type q8_0 --output-tensor-type q8_0 \\\n"
        '  --custom-q "$custom" in.gguf out.gguf Q5_K_M 24\n'
    )
