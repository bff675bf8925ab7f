"""Bytes of the cache: the states of the layers times the cells that an engine makes for them."""

from __future__ import annotations

from qxmix.container.model import ModelHeader
from qxmix.running.model import Cache, LayerState, States, Unknown, Use
from qxmix.running.states import layer_states

_PADDING = 256
"""Both engines round a context up to it; without flash attention ik_llama.cpp rounds to 32."""


def cache_of(header: ModelHeader, use: Use, *, latent: bool = True) -> Cache:
    """The cache that an engine makes for a model.

    Args:
        header: The model.
        use: How it is run.
        latent: Whether of MLA the latent is kept, as both engines do by themselves.

    """
    if use.engine not in use.kv_type.engines:
        return Cache({}, f"{use.engine} does not have the type {use.kv_type.name}")
    states = layer_states(header, use.engine, latent=latent)
    if isinstance(states, Unknown):
        return Cache({}, states.why)
    misfit = next((n for s in states.layers for n in (s.n_key, s.n_value) if not use.kv_type.fits(n)), None)
    if misfit is not None:
        return Cache({}, f"{use.kv_type.name} does not hold keys or values of {misfit} weights a token; try F16")
    return Cache({s.layer: _nbytes(s, states, use) for s in states.layers})


def _nbytes(state: LayerState, states: States, use: Use) -> int:
    cells = n_cells(states, use, windowed=state.windowed)
    stored = sum(use.kv_type.row_nbytes(n) * cells for n in (state.n_key, state.n_value) if n)
    return stored + 4 * state.n_recurrent * use.n_parallel


def n_cells(states: States, use: Use, *, windowed: bool) -> int:
    """Tokens that a layer has room for, all sequences together.

    llama.cpp gives each sequence its own, and a layer with a window no more than that and one batch.
    """
    if use.engine == "ik_llama.cpp":
        return padded(use.n_ctx)
    each = padded(use.n_ctx // use.n_parallel)
    if windowed:
        each = padded(min(each, states.n_window + use.n_ubatch))
    return each * use.n_parallel


def padded(n: int) -> int:
    """``n`` rounded up as the engines do."""
    return -(-n // _PADDING) * _PADDING
