"""From a model to a recipe: sizes, limits, pinned rules, text; on headers of real shapes, without weights."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from qxmix.errors import PlanError
from qxmix.lint import lint
from qxmix.plan import Split, make_plan
from qxmix.quants import get
from qxmix.recipe.load import load_recipe_text
from qxmix.solve.comment import percent
from qxmix.solve.make import Solved, solve_recipe
from qxmix.solve.predict import predictor_of
from qxmix.solve.prior import load_prior
from qxmix.solve.request import Bound, Budget, Limits, Request, Selector, Share
from tests.planning.models import Model, header, imatrix
from tests.planning.test_published import deepseek_v3, glm_4_6
from tests.planning.zoo import dense

if TYPE_CHECKING:
    from qxmix.container.imatrix import Imatrix

GIB = 1 << 30
TYPES = ("IQ2_XXS", "Q2_K", "Q3_K", "IQ4_XS", "IQ4_NL", "Q4_K", "Q5_0", "Q5_K", "Q6_K", "Q8_0")
BASE = "qxmix: 1\nname: base\ntarget: any\ndefault: q8_0\nfallback: error\n"


def small() -> Model:
    return dense("llama", 30, 576, 1536, 9, 3, head=64, tied=True, n_vocab=49152)


def request(
    model: Model, budget: Budget, *, limits: Limits | None = None, base: str = BASE, types: tuple[str, ...] = TYPES,
    matrix: Imatrix | None = None, split: Split | None = None,
) -> Request:  # fmt: skip
    recipe = load_recipe_text(base, "base")
    return Request(header(model), matrix, recipe, budget, types, limits or Limits(), split or Split(), "test")


def solved(asked: Request) -> Solved:
    found = solve_recipe(asked, predictor_of(asked.header, None), ("Made by a test.",))
    assert not [p for p in found.plan.problems if p.severity == "error"]
    assert found.plan.recipe.text == found.text
    return found


@pytest.mark.parametrize("nbytes", [72_000_001, 91_767_424, 105_494_912])
def test_the_file_as_planned_is_never_larger_than_asked_and_hardly_smaller(nbytes: int) -> None:
    model = small()
    found = solved(request(model, Budget(nbytes), matrix=imatrix(model)))
    assert 0.998 * nbytes <= found.plan.file_nbytes <= nbytes


@pytest.mark.parametrize("bpw", [4.75, 6.0])
def test_bits_per_weight_are_those_of_the_plan(bpw: float) -> None:
    model = small()
    found = solved(request(model, Budget(bpw=bpw), matrix=imatrix(model)))
    assert 0.998 * bpw <= found.plan.bpw <= bpw


def test_shards_count_too() -> None:
    model = small()
    found = solved(request(model, Budget(91_767_424), matrix=imatrix(model), split=Split(max_nbytes=20_000_000)))
    assert len(found.plan.files) > 4
    assert 0.997 * 91_767_424 <= found.plan.file_nbytes <= 91_767_424


@pytest.mark.parametrize(("model", "gib"), [(glm_4_6(), 130), (deepseek_v3(), 300)], ids=["GLM-4.6", "DeepSeek-V3"])
def test_a_guess_for_a_large_model_breaks_no_lint(model: Model, gib: int) -> None:
    found = solved(request(model, Budget(gib * GIB)))
    assert 0.998 * gib * GIB <= found.plan.file_nbytes <= gib * GIB
    assert "GUESS" in found.text
    problems = {p.id for p in (*found.plan.problems, *lint(found.plan))}
    # That there is no importance matrix is no fault of the recipe.
    assert problems <= {"imatrix-none"}
    assert len(found.plan.recipe.rules) < 60


def test_equal_inputs_give_equal_recipes() -> None:
    model = small()
    first, second = (solved(request(model, Budget(91_767_424), matrix=imatrix(model))).text for _ in range(2))
    assert first == second


def test_more_bytes_never_lose_more() -> None:
    model = small()
    losses = [solved(request(model, Budget(n), matrix=imatrix(model))).loss for n in (80_000_000, 90_000_000, 10**8)]
    assert losses == sorted(losses, reverse=True)


def test_without_importance_no_type_that_needs_one() -> None:
    model = dense("llama", 4, 512, 1536, 8, 2, head=64)
    types = {t.type for t in solved(request(model, Budget(bpw=2.9))).plan.tensors}
    assert "IQ2_XXS" not in types
    weighted = solved(request(model, Budget(bpw=2.4), matrix=imatrix(model)))
    assert "IQ2_XXS" in {t.type for t in weighted.plan.tensors}


def test_floors_ceilings_and_bans() -> None:
    limits = Limits(
        floors=(Bound(Selector("attn_v"), ("Q6_K",)),),
        ceilings=(Bound(Selector(r"ffn_(gate|up)"), ("IQ4_NL",)),),
        bans=(Bound(Selector("ffn_down"), ("Q4_K", "Q5_K")), Bound(None, ("Q5_0",))),
    )
    model = small()
    found = solved(request(model, Budget(100_000_000), limits=limits, matrix=imatrix(model)))
    for tensor in found.plan.tensors:
        assert "attn_v" not in tensor.name or get(tensor.type).bpw >= get("Q6_K").bpw
        assert "ffn_gate" not in tensor.name or get(tensor.type).bpw <= get("IQ4_NL").bpw
        assert "ffn_down" not in tensor.name or tensor.type not in ("Q4_K", "Q5_K")
        assert tensor.type != "Q5_0"


def test_limits_that_leave_nothing_are_told() -> None:
    limits = Limits(floors=(Bound(Selector("attn_v"), ("Q8_0",)),), bans=(Bound(None, ("Q8_0",)),))
    with pytest.raises(PlanError, match=r"blk\.0\.attn_v\.weight.* leave no type"):
        solved(request(small(), Budget(100_000_000), limits=limits))


def test_too_small_a_size_names_the_least() -> None:
    with pytest.raises(PlanError, match=r"the smallest choice has 7\d,\d{3},\d{3} bytes"):
        solved(request(small(), Budget(30_000_000)))


@pytest.mark.parametrize(
    "ties", [(), (("ffn_gate", "ffn_up"),), (("attn_q.", "attn_k.", "attn_v."), ("ffn_gate", "ffn_up"))]
)
def test_tied_parts_get_one_type(ties: tuple[tuple[str, ...], ...]) -> None:
    model = small()
    found = solved(request(model, Budget(90_000_000), limits=Limits(ties=ties), matrix=imatrix(model)))
    types = {t.name: t.type for t in found.plan.tensors}
    for starts in ties:
        parts = [f"{start.rstrip('.')}.weight" for start in starts]
        assert all(len({types[f"blk.{i}.{p}"] for p in parts}) == 1 for i in range(30))


def test_rules_of_the_base_recipe_stay() -> None:
    base = (
        BASE + "keep: ['attn_k']\nrules:\n"
        "  - {match: '^token_embd', type: q5_0}\n  - {category: ffn_down, layers: first(3), type: q8_0}\n"
    )
    model = small()
    found = solved(request(model, Budget(120_000_000), base=base, matrix=imatrix(model)))
    types = {t.name: t.type for t in found.plan.tensors}
    assert {kind for name, kind in types.items() if "token_embd" in name} == {"Q5_0"}
    assert {types[f"blk.{i}.ffn_down.weight"] for i in range(3)} == {"Q8_0"}
    assert {types[f"blk.{i}.attn_k.weight"] for i in range(30)} == {"F16"}
    assert 0.998 * 120_000_000 <= found.plan.file_nbytes <= 120_000_000


def test_two_budgets() -> None:
    shares = (Share(Selector("exps"), 115 * GIB), Share(None, 12 * GIB))
    found = solved(request(glm_4_6(), Budget(shares=shares)))
    nbytes: dict[bool, int] = defaultdict(int)
    for tensor in found.plan.tensors:
        nbytes["exps" in tensor.name] += tensor.nbytes
    assert 0.998 * 115 * GIB <= nbytes[True] <= 115 * GIB
    assert 0.99 * 12 * GIB <= nbytes[False] <= 12 * GIB


def test_few_types() -> None:
    model = small()
    found = solved(request(model, Budget(95_000_000), limits=Limits(max_types=3), matrix=imatrix(model)))
    assert len({t.type for t in found.plan.tensors if t.action == "encode"}) <= 3


def test_a_quantized_model_may_stay_as_it_is() -> None:
    model = replace(small(), types={n: "Q5_0" for n, s in small().shapes.items() if len(s) > 1})
    found = solved(request(model, Budget(200_000_000)))
    assert {t.action for t in found.plan.tensors} == {"copy"}
    with pytest.raises(PlanError, match="smallest choice"):
        solved(request(model, Budget(80_000_000)))
    again = solved(request(model, Budget(80_000_000), base=BASE + "allow_requantize: true\n"))
    assert again.plan.file_nbytes <= 80_000_000


@pytest.mark.parametrize("more", ["", "allow_requantize: true\n"])
def test_weights_that_cannot_be_read_stay_as_they_are(more: str) -> None:
    doubles = {f"blk.{i}.ffn_down.weight": "F64" for i in range(3)}
    model = replace(small(), types=doubles)
    found = solved(request(model, Budget(120_000_000), base=BASE + more, matrix=imatrix(model)))
    assert {t.name for t in found.plan.tensors if t.type == "F64"} == set(doubles)


def test_sums_that_differ_by_rounding_are_the_same() -> None:
    assert percent(0.1 + 0.2, 0.3) == percent(0.3, 0.1 + 0.2) == percent(0.0, 0.0) == "0 %"
    assert percent(0.3001, 0.3) == "0.033 %"


def test_every_tensor_that_is_chosen_for_is_named_by_one_rule() -> None:
    model = small()
    found = solved(request(model, Budget(91_767_424), matrix=imatrix(model)))
    plan = make_plan(load_recipe_text(found.text, "again"), found.request.header, found.request.imatrix)
    assert [(t.name, t.type) for t in plan.tensors] == [(t.name, t.type) for t in found.plan.tensors]
    assert not lint(plan)


def test_the_prior_knows_all_types_that_are_candidates() -> None:
    prior = load_prior()
    assert all(0 < error < 2 for error in prior.errors.values())
    assert prior.error("Q4_K_R4") == prior.error("Q4_K")
    assert prior.error("Q2_K") > prior.error("Q3_K") > prior.error("Q4_K") > prior.error("Q5_K")  # type: ignore[operator]


def test_stacks_of_other_names_are_told_apart() -> None:
    shapes = {"token_embd.weight": (512, 320)}
    for stack in ("enc.blk", "dec.blk", "blk"):
        for i in range(3):
            shapes |= {f"{stack}.{i}.ffn_up.weight": (512, 1024), f"{stack}.{i}.ffn_down.weight": (1024, 512)}
    model = Model("t5", small().facts, shapes)
    limits = Limits(floors=(Bound(Selector(r"^enc\..*ffn_up"), ("Q8_0",)), Bound(Selector(r"^blk\.1\."), ("Q6_K",))))
    found = solved(request(model, Budget(bpw=4.8), limits=limits))
    types = {t.name: t.type for t in found.plan.tensors}
    assert {types[f"enc.blk.{i}.ffn_up.weight"] for i in range(3)} == {"Q8_0"}
    assert {types[f"dec.blk.{i}.ffn_up.weight"] for i in range(3)} != {"Q8_0"}
