"""What holds for any model and any recipe."""

from __future__ import annotations

from dataclasses import replace
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING

from hypothesis import given, settings
from hypothesis import strategies as st

from qxmix.errors import Place
from qxmix.plan import Split, make_plan
from qxmix.planning.fallback import Types, effective_type, misfit
from qxmix.quants import QUANT_TYPES, find, get
from qxmix.recipe.conditions import parse_test
from qxmix.recipe.layers import LayerSelector, holds, parse_terms
from qxmix.recipe.model import Fallback, Ordinals, Recipe, Rule
from tests.planning.models import Model, Shape, facts, header

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy

    from qxmix.container.model import ModelHeader
    from qxmix.recipe.model import Policy

BOTH = [t.name for t in QUANT_TYPES if t.writable and len(t.engines) == 2]
IK = [t.name for t in QUANT_TYPES if t.writable and "ik_llama.cpp" in t.engines]
PARTS = ["attn_q", "attn_k", "attn_v", "attn_output", "ffn_up", "ffn_gate", "ffn_down", "ffn_down_exps", "attn_norm"]
NAMES = ["token_embd.weight", "output.weight", *(f"blk.{i}.{p}.weight" for i in range(6) for p in PARTS)]

shapes: SearchStrategy[Shape] = st.tuples(
    st.sampled_from([1, 32, 64, 100, 256, 288, 512, 768]), st.integers(1, 70), st.integers(1, 3)
).map(lambda s: tuple(n for i, n in enumerate(s) if i == 0 or prod(s[i:]) > 1))
names = st.lists(st.sampled_from(NAMES), min_size=1, max_size=30, unique=True)
layers = st.sampled_from(["0-2", "first(1/2)", "last(2)", "every(2, 1)", "more_bits", "!more_bits", "all"])
fallbacks = st.builds(
    Fallback,
    st.sampled_from([None, "llama.cpp", "ik_llama.cpp", "error"]),
    st.dictionaries(st.sampled_from(["", *IK]), st.lists(st.sampled_from(BOTH), min_size=1, max_size=3).map(tuple)),
)


@st.composite
def rules(draw: st.DrawFn, by: str = "") -> Rule:
    kind = draw(st.sampled_from([by] if by else ["layer", "ordinal", "layer_if_experts"]))
    selector = LayerSelector(parse_terms(draw(layers), {}), kind, text="x")  # type: ignore[arg-type]
    return Rule(
        where=Place("r.yaml", 1, "rules[0]"),
        source=0,
        unit=draw(st.integers(0, 1)),
        type=draw(st.sampled_from([*IK, "default", "keep"])),
        match=draw(st.sampled_from([None, "attn", "ffn_(up|gate)", r"blk\.[0-3]\.", "output"])),
        categories=draw(st.sampled_from([(), ("attn_v",), ("ffn_down", "ffn_up")])),
        layers=draw(st.sampled_from([None, selector])),
        when=draw(st.sampled_from([(), ((parse_test("n_cols", ["%256"]),),)])),
        tie=draw(st.booleans()),
        force=draw(st.booleans()),
    )


def recipe_of(
    found: list[Rule], default: str = "Q4_K", fallback: Fallback | None = None, order: str = "name"
) -> Recipe:
    return Recipe(
        name="r",
        target="ik_llama.cpp",
        default=default,
        rules=tuple(sorted(found, key=lambda r: r.unit)),
        path=Path("r.yaml"),
        sources=(),
        places={"default": Place("r.yaml", 1, "default")},
        fallback=fallback or Fallback(),
        ordinals=Ordinals(order),  # type: ignore[arg-type]
    )


def model_of(found: list[str], drawn: list[Shape]) -> ModelHeader:
    return header(Model("llama", facts(6, 256, 8, 2), dict(zip(found, drawn, strict=False)), 8))


@given(names, st.lists(shapes, min_size=30, max_size=30), st.lists(rules(), max_size=6), st.sampled_from(IK), fallbacks)
@settings(max_examples=150, deadline=None)
def test_sizes_add_up_and_every_type_fits(
    found: list[str], drawn: list[Shape], some: list[Rule], default: str, fallback: Fallback
) -> None:
    head = model_of(found, drawn)
    plan = make_plan(recipe_of(some, default, fallback), head)
    assert [t.source for t in plan.tensors] == list(head.tensors)
    assert plan.file_nbytes == sum(f.nbytes for f in plan.files)
    end = len(plan.files[0].header)
    for tensor in plan.tensors:
        assert tensor.offset == end
        end += -(-tensor.nbytes // 32) * 32
    assert plan.file_nbytes == end
    if any(p.id == "fallback-error" for p in plan.problems):
        return
    for tensor in plan.tensors:
        assert tensor.nbytes == get(tensor.type).nbytes(tensor.source.shape)
        if tensor.action == "encode":
            assert not misfit(tensor.source, get(tensor.type))
            assert "ik_llama.cpp" in get(tensor.type).engines


@given(shapes, st.sampled_from(IK), fallbacks, st.sampled_from(["llama.cpp", "ik_llama.cpp", "error"]))
@settings(max_examples=300, deadline=None)
def test_every_fallback_ends_in_a_type_that_fits_or_in_a_reason(
    shape: Shape, asked: str, fallback: Fallback, policy: Policy
) -> None:
    tensor = header(Model("llama", {}, {"blk.0.attn_q.weight": shape}, 1)).tensors[0]
    found = effective_type(tensor, get(asked), (fallback,), policy, ("ik_llama.cpp",), Types())
    assert bool(found.error) or not misfit(tensor, found.quant_type)
    assert len(found.steps) < len(QUANT_TYPES)
    seen = [asked, *(step.after for step in found.steps)]
    assert len(set(seen)) == len(seen), "no type is tried twice"
    assert seen[-1] == found.quant_type.name
    assert all(find(name) for name in seen)


@given(
    names, st.lists(shapes, min_size=30, max_size=30), st.lists(rules(), max_size=6), st.randoms(use_true_random=False)
)
@settings(max_examples=100, deadline=None)
def test_the_order_of_the_file_does_not_matter_where_tensors_are_counted_by_name(
    found: list[str], drawn: list[Shape], some: list[Rule], random: object
) -> None:
    recipe = recipe_of(some)
    head = model_of(found, drawn)
    shuffled = list(head.tensors)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    before = {t.name: t.type for t in make_plan(recipe, head).tensors}
    assert {t.name: t.type for t in make_plan(recipe, replace(head, tensors=tuple(shuffled))).tensors} == before


@given(names, st.lists(shapes, min_size=30, max_size=30), st.lists(rules(), max_size=6), shapes)
@settings(max_examples=100, deadline=None)
def test_a_tensor_that_no_rule_names_changes_nothing_about_the_others(
    found: list[str], drawn: list[Shape], some: list[Rule], extra: Shape
) -> None:
    selective = [r for r in some if r.match is not None and r.match != "output"]
    head = model_of(found, drawn)
    more = model_of([*found, "unrelated.weight"], [*drawn[: len(found)], extra])
    before = {t.name: t.type for t in make_plan(recipe_of(selective), head).tensors}
    after = {t.name: t.type for t in make_plan(recipe_of(selective), more).tensors}
    assert after.pop("unrelated.weight")
    assert after == before


@given(
    names, st.lists(shapes, min_size=30, max_size=30), st.integers(200, 300_000), st.integers(1, 12), st.integers(0, 1)
)
@settings(max_examples=80, deadline=None)
def test_a_split_holds_every_tensor_once_and_each_shard_adds_up(
    found: list[str], drawn: list[Shape], max_nbytes: int, max_tensors: int, n_bare: int
) -> None:
    head = model_of(found, drawn)
    whole = make_plan(recipe_of([]), head)
    plan = make_plan(recipe_of([]), head, split=Split(max_nbytes, max_tensors, bare_first=bool(n_bare)))
    assert [(t.name, t.type, t.nbytes) for t in plan.tensors] == [(t.name, t.type, t.nbytes) for t in whole.tensors]
    assert sorted({t.shard for t in plan.tensors}) == list(range(n_bare, len(plan.files)))
    assert len(plan.files[0].header) == plan.files[0].nbytes or not n_bare
    for i, file in enumerate(plan.files):
        members = [t for t in plan.tensors if t.shard == i]
        assert file.nbytes == len(file.header) + sum(-(-t.nbytes // 32) * 32 for t in members)
        assert (i >= n_bare) <= len(members) <= max_tensors
        assert file.nbytes <= max_nbytes or len(members) == 1 or i < n_bare


@given(st.integers(0, 200), st.integers(0, 200))
def test_layer_arithmetic_is_that_of_the_engines(i: int, n: int) -> None:
    def selects(text: str) -> bool:
        return holds(LayerSelector(parse_terms(text, {})), i, n)

    # use_more_bits of llama-quantize, and its tests of a layer, in C's integer arithmetic.
    assert selects("more_bits") == (i < n // 8 or i >= 7 * n // 8 or (i - n // 8) % 3 == 2)
    assert selects("first(1/8)") == (i < n // 8)
    assert selects("first(1/16)") == (i < n // 16)
    assert selects("last(1/8)") == (i >= 7 * n // 8)
    assert selects("range(1/8, 7/8)") == (n // 8 <= i < 7 * n // 8)
    assert selects("!first(1/8), !last(1/8)") == (n // 8 <= i < 7 * n // 8)
    assert selects("first(4)") == (i < 4)
    assert selects("last(4)") == (i >= n - 4)
    assert selects("2-5, 9") == (2 <= i <= 5 or i == 9)
    assert selects("all, !every(3, 1), 4") == (i % 3 != 1 or i == 4)
