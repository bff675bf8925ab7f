"""Shapes of the demo models: small, yet with every kind of tensor and row that a planner must tell apart."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class DemoShape:
    """Dimensions of a llama-architecture model."""

    n_layer: int
    n_ff: int
    """Columns of ``ffn_down``, per expert where there are experts; 64 divides it and 256 does not."""
    n_expert: int = 0
    n_expert_used: int = 0
    n_embd: int = 256
    """Columns of every other matrix; 256 divides it."""
    n_head: int = 4
    n_head_kv: int = 2
    n_vocab: int = 512
    n_ctx: int = 2048

    @property
    def head_size(self) -> int:
        """Weights of an attention head."""
        return self.n_embd // self.n_head

    def layer_matrices(self) -> dict[str, tuple[int, ...]]:
        """Quantizable matrices of one layer: name without the ``blk.N.`` in front, shape with the row length first."""
        attention = {
            "attn_q.weight": (self.n_embd, self.n_embd),
            "attn_k.weight": (self.n_embd, self.head_size * self.n_head_kv),
            "attn_v.weight": (self.n_embd, self.head_size * self.n_head_kv),
            "attn_output.weight": (self.n_embd, self.n_embd),
        }
        stacked = (self.n_expert,) if self.n_expert else ()
        experts = "_exps" if self.n_expert else ""
        return attention | {
            f"ffn_gate{experts}.weight": (self.n_embd, self.n_ff, *stacked),
            f"ffn_up{experts}.weight": (self.n_embd, self.n_ff, *stacked),
            f"ffn_down{experts}.weight": (self.n_ff, self.n_embd, *stacked),
        }

    def block_matrices(self) -> dict[str, tuple[int, ...]]:
        """Quantizable matrices of all layers: name, shape with the row length first."""
        return {
            f"blk.{layer}.{name}": shape
            for layer in range(self.n_layer)
            for name, shape in self.layer_matrices().items()
        }


DENSE = DemoShape(n_layer=4, n_ff=448)
MOE = DemoShape(n_layer=2, n_ff=192, n_expert=4, n_expert_used=2)
