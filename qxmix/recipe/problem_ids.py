"""The ids of problems: what each is about, and who may silence it.

They stand with the language, since ``silence`` names them, and not with the checks that raise them.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

By = Literal["rule", "recipe", "nobody"]


class ProblemId(NamedTuple):
    """A kind of problem."""

    about: str
    silenced_by: By = "rule"
    """``rule``: by the rule whose tensors it is about, or for all of them by the recipe; ``recipe``: only there, as it
    is about the plan as a whole; ``nobody``: an error, which is mended and not silenced."""


IDS: dict[str, ProblemId] = {
    "rule-unmatched": ProblemId("a rule selects no tensor of the model"),
    "rule-never-quantized": ProblemId("a rule selects only tensors that are never quantized"),
    "rule-shadowed": ProblemId("rules before it take all tensors that a rule selects"),
    "rule-partly-shadowed": ProblemId("rules before it take some of the tensors that a rule selects"),
    "match-order": ProblemId("tensors would get another type if the last rule that selects them won, not the first"),
    "output-unanchored": ProblemId("a pattern for output.weight also takes attn_output.weight"),
    "layer-gap": ProblemId("rules name nearly all layers of a part, and the others get the default"),
    "default-leftover": ProblemId("rules name nearly all tensors, and a few kinds get the default", "recipe"),
    "default-used": ProblemId("tensors that no rule names get the default", "recipe"),
    "gate-up-differ": ProblemId("ffn_gate and ffn_up of a layer have different types"),
    "bits-above-requested": ProblemId("fallbacks make the result larger than the types asked for"),
    "fallback": ProblemId("a type cannot hold the rows, and another is taken"),
    "fallback-error": ProblemId("a type cannot hold the rows, and no other may be taken", "nobody"),
    "engine-rows": ProblemId("ik_llama.cpp loads rows of this length and cannot multiply them"),
    "engine-type": ProblemId("a tensor stays in a type that the target does not load", "nobody"),
    "no-effect": ProblemId("the plan encodes no tensor", "recipe"),
    "transformed-weights": ProblemId("metadata say that weights are stored rotated", "recipe"),
    "search-unused": ProblemId("a search is asked for that the encoder of the type does not have"),
    "symmetric-unused": ProblemId("levels around zero are asked for and the type has no others"),
    "scale-unused": ProblemId("a factor of scales is asked for that the encoder of the type does not take"),
    "lattice-lost": ProblemId("weights sit on a lattice that the type or the search may not keep (--lattice)"),
    "lattice-unchecked": ProblemId("lattices of a model whose weights are not here to compare (--lattice)", "recipe"),
    "shard-size": ProblemId("a tensor alone is larger than a file may be", "recipe"),
    "type-not-written": ProblemId("qxmix cannot write a type, or not read one that would have to be", "nobody"),
    "requantize": ProblemId("the model is quantized already", "nobody"),
    "larger-than-model": ProblemId("the tensors become larger than they are in the model", "recipe"),
    "rule-buys-little": ProblemId(
        "bytes that a rule spends would take more off the predicted loss elsewhere (lint --measure)"
    ),
    "rule-costs-much": ProblemId(
        "more bytes for a rule would take more off the predicted loss than elsewhere (lint --measure)"
    ),
    "publish-name": ProblemId("the file's name is not as GGUF and the hub have it (lint --publish)", "recipe"),
    "publish-size": ProblemId("a file is larger than the hub asks for (lint --publish)", "recipe"),
    "lock": ProblemId("the plan differs from its lock file", "nobody"),
    "expect": ProblemId("a rule decides more or fewer tensors than it expects", "nobody"),
    "limit-bpw": ProblemId("more bits per weight than the recipe allows", "nobody"),
    "limit-size": ProblemId("a larger output than the recipe allows", "nobody"),
    "limit-vram": ProblemId("running takes more memory of GPUs than the recipe allows", "nobody"),
    "limit-ram": ProblemId("running takes more memory than the recipe allows", "nobody"),
    "limit-cache-unknown": ProblemId("limits on memory, and a cache of which the size is not known", "recipe"),
    "metadata": ProblemId("metadata are to be changed that cannot be, or to a value of another type", "nobody"),
    "metadata-unmatched": ProblemId("metadata are to be removed or renamed that the model does not have", "recipe"),
    "imatrix-none": ProblemId("no importance matrix is given, and the encoders would read one"),
    "imatrix-missing": ProblemId("the importance matrix has no entry for a tensor whose encoder reads one"),
    "imatrix-size": ProblemId("an entry of the importance matrix does not fit its tensor"),
    "imatrix-model": ProblemId("the importance matrix is another model's: most entries do not fit", "nobody"),
    "imatrix-unused": ProblemId("the importance matrix has entries for tensors that the model does not have", "recipe"),
    "imatrix-unseen": ProblemId("the text of the importance matrix reached no token of some experts", "recipe"),
    "imatrix-thin": ProblemId("some experts saw less than 5 % of what those of their tensor saw on average", "recipe"),
    "imatrix-prior": ProblemId(
        "the recipe has a prior for thin experts and the importance matrix does not count experts", "recipe"
    ),
    "imatrix-alternate": ProblemId("a tensor is weighted by the entry of another one with the same input"),
    "feedback-type": ProblemId("feedback is asked for and the type has none"),
    "moments-none": ProblemId("feedback is asked for and no moments are given", "recipe"),
    "moments-unused": ProblemId("moments are given and no rule asks for feedback", "recipe"),
    "moments-missing": ProblemId("the moments have no entry for a tensor that is to be encoded with feedback"),
    "moments-model": ProblemId("the moments are another model's: they have entries for tensors it lacks", "nobody"),
    "moments-shape": ProblemId("an entry of the moments does not fit its tensor", "nobody"),
}
"""Every id there is."""
