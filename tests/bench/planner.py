"""How long a plan of a thousand tensors takes, in processor time: ``python -m tests.bench.planner [RECIPE...]``."""

from __future__ import annotations

import sys
import time

from qxmix.plan import make_plan
from qxmix.recipe import load_recipe
from tests.planning.models import header
from tests.planning.zoo import experts


def main() -> None:
    """Print the least of five for each recipe."""
    head = header(experts("deepseek2", 61, 704, 96, 16, 16, 16, lead=3, shared=True, mla=(512, 128, 64, 128)))
    for name in sys.argv[1:] or ("ik_llama.cpp/iq3_xxs", "llama.cpp/q3_k_m"):
        recipe, times = load_recipe(name), []
        for _ in range(5):
            start = time.process_time()
            make_plan(recipe, head)
            times.append(time.process_time() - start)
        print(f"{name}: {len(head.tensors)} tensors, {min(times):.3f} s")


if __name__ == "__main__":
    main()
