"""Right scripts of every kind that people post, and what a mutator puts into them."""

from __future__ import annotations

from tests.dialects.sources import GLM_SCRIPT

_SCRIPTS = r"""
./llama-quantize --imatrix i.dat --tensor-type attn_v=q8_0 --tensor-type 'ffn_down=q6_k' in.gguf out.gguf Q4_K_M 8
=====
./llama-quantize --pure --tensor-type-file types.txt in.gguf Q4_0 # why
=====
Use this:

```bash
$ ./llama-quantize --output-tensor-type q8_0 \
  --tensor-type "blk\.(0|1)\.attn_k=q5_1" \
  in.gguf out.gguf IQ4_XS
```
It works.
=====
ARGS=(--tensor-type attn_q=q8_0 --tensor-type "ffn=q5_k")
ARGS+=(--token-embedding-type q8_0)
./llama-quantize "${ARGS[@]}" in.gguf out.gguf Q3_K_M $(nproc) 2>&1 | tee log
=====
OPTS='--leave-output-tensor --tensor-type attn=q6_k'
if [ ! -f out.gguf ]; then
  ./llama-quantize $OPTS in.gguf out.gguf Q5_K_S
fi
=====
for q in Q4_K_M IQ4_XS; do
  ./llama-quantize --tensor-type attn_v=q8_0 in.gguf "out-$q.gguf" $q
done
=====
set OPTS=--tensor-type attn_v=q8_0
llama-quantize.exe %OPTS% ^
  in.gguf out.gguf Q4_K_M
=====
$o = "--pure"
& .\llama-quantize.exe $o `
  --tensor-type 'attn_v=q8_0' in.gguf out.gguf Q4_K_M
=====
./llama-quantize --custom-q 'attn_v=q8_0,ffn_down=q6_K' in.gguf out.gguf IQ4_KS 8
=====
./llama-quantize --custom-q "attn=iq5_k,output.weight=q6_K" --custom-q 'blk\.[0-5]\.ffn=iq4_k,.*=q6_0' \
  --imatrix i.dat in.gguf out.gguf IQ3_K
=====
custom="
# attention
attn_v=q8_0

ffn_down=q6_K
"
custom=$(
  echo "$custom" | grep -v '^#' | \
  sed -Ez 's:\n+:,:g;s:,$::;s:^,::'
)
./llama-quantize \
    --custom-q "$custom" \
    in.gguf \
    out.gguf \
    IQ4_K \
    8
=====
c=attn_v=q8_0
c+=,ffn=iq4_nl
T=IQ4_XS
./llama-quantize --custom-q $c --output-tensor-type q8_0 in.gguf out-$T.gguf $T && ls
=====
read -r -d '' custom <<'EOF'
attn_q=q6_K
ffn_up=iq3_k
EOF
custom=$(echo "$custom" | tr '\n' ',' | sed 's/,$//')
./llama-quantize --pure --ffn-down-type q8_0 --custom-q "$custom" in.gguf out.gguf Q4_K_S > log 2>&1
=====
./llama-quantize --attn-v-type q8_0 --ffn-gate-type iq4_k --ignore-imatrix-rules \
  --custom-q token_embd=q8_0 in.gguf IQ2_KT
=====
custom="
# Attention: first 3 dense layers, then the rest
blk\.(0|1|2)\.attn_q.*=q8_0
blk\.(0|1|2)\.attn_k.*=q8_0
blk\.(0|1|2)\.attn_v.*=q8_0
blk\.(0|1|2)\.attn_output.*=q8_0
blk\..*\.attn_q.*=iq5_ks
blk\..*\.attn_k.*=q8_0
blk\..*\.attn_v.*=q8_0
blk\..*\.attn_output.*=iq5_ks

# Feed forward, and experts
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
"
=====
## list
^token_embd\.weight$=q8_0
^blk\.(0|1)\.attn_v\.weight$=iq5_k
^output\.weight$=q6_K
"""

SCRIPTS = (*_SCRIPTS[1:].split("\n=====\n"), GLM_SCRIPT)

_WORDS = r"""
 --pure --custom-q --tensor-type --tensor-type-file --output-tensor-type --leave-output-tensor --imatrix
--allow-requantize --dry-run --keep-split --unknown -pure -- - attn_v=q8_0 attn=Q8_0 ffn=q6_K
ffn_down=q4_k x=q6_0 =q8_0 attn= a==q8_0 attn,ffn=q8_0 in.gguf out.gguf Q4_K_M q8_0 Q8_0 F16 COPY IQ4_KS IQ2_XS 15 7
8 8abc 15b.gguf 007 +8 $A "$A" ${A} ${custom} "${ARGS[@]}" $@ "$@" %OPTS% $(nproc) $(cat x) `cat x` <(cat x) *.gguf
blk.[0-9]=q8_0 {a,b}=q8_0 ~ ~/in.gguf $'a' $'a\tb' $"a" '' "" ' " \ \\ # ; & && || | > >> < << <<< 2>&1 >log ( ) { }
! time nohup env exec exit sudo true false if then fi for do done while q=Q8_0 A=attn=q8_0 A+=x export local unset
source eval echo set alias ${A:-q8_0} ${A%x} ${A^^} $((1+1)) $1 $? $$ function case esac
in read ^ %% @ IFS=,
"""
_PIECES = [
    "\n", "\\\n", "\t", " ", "  ", "\r\n", "\\\n #x\n", " #x\n", "\n\n", "'a b'", '"a b"', "\\ ", "\x00", "\x1b[0m",
]  # fmt: skip
_ALIKE = ["\u2014pure", "\u2013-pure", "\u201cattn\u201d", "\u2018q\u2019", "\u00a0", "\ufeff", "\u200b"]

PIECES = (*_WORDS.split(), *_PIECES, *_ALIKE)
"""Words of both engines and of three shells, and characters that look like others."""
