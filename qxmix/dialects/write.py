"""A source as a recipe of ours: ordinary YAML with its comments, and what was decided on the way."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from qxmix.dialects.mixes import FLOATS, MANY_EXPERTS, asked_flags, default_type, file_type, shipped_recipe
from qxmix.dialects.model import SourceMix, TypeFlag
from qxmix.errors import RecipeError
from qxmix.quants import Engine, get
from qxmix.recipe.patterns import search

_ORDER = {
    "llama.cpp": "Patterns are searched in the name, the first that is found decides; the flags beat them.",
    "ik_llama.cpp": "Patterns are searched in the name, the first that is found decides; the flags beat them.",
    "thireus": "Every tensor is named; what is not stays as it is.",
}
_SWITCHES = {
    "--leave-output-tensor": r"keep: ['^output\.weight$']",
    "--allow-requantize": "allow_requantize: true",
    "--ignore-imatrix-rules": "imatrix: {missing: warn}",
    "--symmetric-q40": "symmetric: true",
}
"""What a switch is in a recipe."""
_MIX_PARTS = {
    "attn_v": r"attn_v\.weight", "attn_k": "attn_k", "attn_q": "attn_q", "ffn_down": "ffn_down",
    "attn_output": r"attn_output\.weight", "ffn_gate": "ffn_gate", "ffn_up": "ffn_up",
}  # fmt: skip


def recipe_text(mix: SourceMix, name: str, target: Engine, silenced: Collection[str] = ()) -> str:
    """The recipe.

    Args:
        mix: The source.
        name: The recipe's name.
        target: The engine that is to load the result; interleaved types it does not know become the plain ones.
        silenced: Ids of problems that the source has on its model, too.

    Raises:
        RecipeError: a type is unknown to the target, or the mix is none that is shipped.

    """
    lines = [
        f"# Imported from {_printable(mix.origin)}.",
        f"# {_ORDER[mix.dialect]}",
        *(f"# Note: {_printable(n)}." for n in mix.notes),
    ]
    rules = [*_first(mix, target), *_ruled(mix, target), *_last(mix, target)]
    if target == "llama.cpp" and any(get(r.type).base for r in mix.rules):
        lines.append("# Note: interleaved types (_R4, _R8) are written as the plain ones, which llama.cpp knows.")
    lines += ["qxmix: 1", f"name: {quoted(recipe_name(name))}", f"target: {target}", *_base(mix, target)]
    if silenced:
        reasons = ", ".join(f"{id_}: so is the source" for id_ in sorted(silenced))
        lines.append(f"silence: {{{reasons}}}")
    lines += [line for option, line in _SWITCHES.items() if option in mix.switches]
    if mix.factors:
        lines.append(f"scale: {{{', '.join(f'{kind.lower()}: {f:g}' for kind, f in mix.factors.items())}}}")
    if target != mix.engine:
        counting = (
            "{order: file, overridden: count}" if mix.engine == "ik_llama.cpp" else "{order: name, overridden: skip}"
        )
        lines.append(f"ordinals: {counting}")
    return (
        "\n".join([*lines, *(["rules:", *rules] if any(not r.lstrip().startswith("#") for r in rules) else rules)])
        + "\n"
    )


def quoted(text: str) -> str:
    """A YAML scalar in single quotes."""
    return "'" + text.replace("'", "''") + "'"


def recipe_name(stem: str) -> str:
    """A file's stem as the name of a recipe, which has no slashes or control characters."""
    return _printable(stem).replace("/", "-").replace("\\", "-") or "imported"


def _printable(text: str) -> str:
    """The text without what YAML does not take, in one line."""
    return "".join(c if c.isprintable() else " " for c in text)


def _base(mix: SourceMix, target: Engine) -> Iterator[str]:
    if mix.base is None or mix.base == "COPY":
        yield "default: keep"
        return
    plain = default_type(mix.base)
    if "--pure" in mix.switches or plain in FLOATS:
        yield f"default: {_type(plain, target, 'the mix')}"
        if target == mix.engine and (number := file_type(mix.base, target)) is not None:
            yield f"file_type: {number}"
        return
    name = shipped_recipe(mix.base, mix.engine)
    if name is None:
        text = f"qxmix comes without a recipe of the mix {mix.base} of {mix.engine}; name another with --base"
        raise RecipeError.at(mix.origin, text)
    yield f"extends: {name}   # decides what no rule here does"


def _type(name: str, target: Engine, where: str) -> str:
    found = get(name)
    if target not in found.engines and found.base and target in get(found.base).engines:
        found = get(found.base)
    if target not in found.engines:
        raise RecipeError.at(where, f"{name} is not a type of {target}; import for {found.engines[0]}")
    return found.name.lower()


def _first(mix: SourceMix, target: Engine) -> Iterator[str]:
    """Flags that beat the rules and take no fallback: what does not fit stops the engine; COPY asks for none."""
    if mix.base == "COPY":
        return
    selectors: dict[TypeFlag, str] = {
        "token_embd": r"^token_embd\.weight$", "per_layer_token_embd": r"^per_layer_token_embd\.weight$",
        "output": r"^output\.weight$",
    }  # fmt: skip
    for flag, pattern in selectors.items():
        if flag in mix.flags:
            yield _flag_rule(flag, pattern, mix.flags[flag], target)
    if mix.dialect == "llama.cpp" and "token_embd" in mix.flags:
        # A rule that names it beats the flag there.
        pattern = selectors["per_layer_token_embd"]
        ruled = [r for r in mix.rules if search(r.pattern, "per_layer_token_embd.weight", r.where)]
        if not ruled:
            yield _flag_rule("token_embd", pattern, mix.flags["token_embd"], target)
    if "ffn_gate_inp" in mix.flags:
        chosen = _type(mix.flags["ffn_gate_inp"], target, "--ffn-gate-inp-type")
        yield "  # --ffn-gate-inp-type: the engines never quantize these unasked"
        pattern = quoted(r"ffn_gate_inp\.weight$")
        yield f"  - {{match: {pattern}, when: {{n_dims: '>=2'}}, type: {chosen}, force: true, fallback: error}}"


def _flag_rule(flag: str, pattern: str, chosen: str, target: Engine) -> str:
    found = get(chosen)
    plain = found.base and ("token_embd" in flag or target not in found.engines)
    kind = _type(found.base if plain else chosen, target, f"the flag for {flag}")
    fallback = "error" if plain or not found.base else f"{{policy: error, {kind}: [{found.base.lower()}]}}"
    return f"  - {{match: {quoted(pattern)}, type: {kind}, fallback: {fallback}}}"


def _ruled(mix: SourceMix, target: Engine) -> Iterator[str]:
    """The source's own rules, as comments where its engine does not look at them."""
    base, pure = mix.base, "--pure" in mix.switches
    ignored = base is not None and (
        base == "COPY" or default_type(base) in FLOATS or (pure and mix.engine == "ik_llama.cpp")
    )
    if ignored and mix.rules:
        yield f"  # {mix.engine} ignores its rules with {base}{' and --pure' if pure else ''}:"
    for rule in mix.rules:
        yield from (f"  # {_printable(comment)}" for comment in rule.comments)
        kind = _type(rule.type, target, rule.where)
        yield f"  {'# ' if ignored else ''}- {{match: {quoted(rule.pattern)}, type: {kind}}}"


def _last(mix: SourceMix, target: Engine) -> Iterator[str]:
    """Flags that the engine asks inside of its mix, after the rules."""
    if mix.base is None or "--pure" in mix.switches or mix.base == "COPY" or default_type(mix.base) in FLOATS:
        return
    if "output" in mix.flags:
        kind = _type(mix.flags["output"], target, "--output-tensor-type")
        where = "category: token_embd" if mix.engine == "llama.cpp" else r"match: '^token_embd\.weight$'"
        yield "  # The output of a tied model is its embeddings."
        yield f"  - {{{where}, when: {{tied: true}}, type: {kind}}}"
    asked = asked_flags(mix.base)
    for flag, part in _MIX_PARTS.items():
        if flag in mix.flags and flag in asked:
            kind = _type(mix.flags[flag], target, f"the flag for {flag}")
            if asked == ("ffn_down",):
                few, many = f"when: {{n_expert: '<{MANY_EXPERTS}'}}", f"when: {{n_expert: '>={MANY_EXPERTS}'}}"
                yield rf"  - {{match: '^(?!.*_shexp\.weight).*ffn_down', {few}, type: {kind}}}"
                yield rf"  - {{match: '^(?!.*(_shexp\.weight|blk\.0\.ffn_down)).*ffn_down', {many}, type: {kind}}}"
            else:
                yield f"  - {{match: {quoted(part)}, type: {kind}}}"
