"""GatherTree: the sequences of a beam search, put together from the words of each step and the beams they go on from."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from headrace.api import array_ops
from headrace.api.gather_ops import gather_nd
from headrace.api.join_ops import stack
from headrace.api.mask_ops import sequence_mask, where
from headrace.api.math_ops import cast
from headrace.api.reduction import range as range_
from headrace.api.reduction import reduce_max
from headrace.core import dtypes
from headrace.graph import raw, shapes
from headrace.graph.op_def import Effect, define
from headrace.graph.tensor import Tensor
from headrace.lowering import checks

# ---- GatherTree: of TensorFlow's contrib library, not in its table of ops

gather_tree_op = define(
    "GatherTree",
    "step_ids: T, parent_ids: T, max_sequence_lengths: int32, end_token: T -> beams: T",
    "T: {int32}",
    effects=Effect.FALLIBLE,
)


@gather_tree_op.shape
def _gather_tree_shape(op, step_ids, parent_ids, max_sequence_lengths, end_token):
    shapes.with_rank(op, step_ids, 3, "step_ids")
    shapes.with_rank(op, parent_ids, 3, "parent_ids")
    shapes.with_rank(op, max_sequence_lengths, 1, "max_sequence_lengths")
    shapes.with_rank(op, end_token, 0, "end_token")
    merged = shapes.merge(op, step_ids, parent_ids, "step_ids and parent_ids")
    if merged is not None and max_sequence_lengths is not None:
        batch = (merged[1],)
        shapes.merge(op, batch, max_sequence_lengths, "the batch and max_sequence_lengths")
    return merged


@gather_tree_op.lower
def _gather_tree_lower(op, step_ids, parent_ids, max_sequence_lengths, end_token):
    steps, batch, width = step_ids.shape
    if parent_ids.shape != step_ids.shape or max_sequence_lengths.shape != (batch,):
        raise op.invalid(
            f"step_ids {step_ids.shape}, parent_ids {parent_ids.shape} and max_sequence_lengths "
            f"{max_sequence_lengths.shape} must have one batch and the first two one shape."
        )
    length = jnp.minimum(steps, max_sequence_lengths)[:, None]

    def back(beam, now):
        time, ids, parents = now
        within = time < length
        found = jnp.where(within, jnp.take_along_axis(ids, beam, 1), end_token)
        parent = jnp.where(within, jnp.take_along_axis(parents, beam, 1), beam)
        bad = ((parent < 0) | (parent >= width)) & (time > 0)
        return jnp.clip(parent, 0, width - 1), (found, jnp.where(bad, parent, 0), bad)

    own = jnp.broadcast_to(jnp.arange(width, dtype=np.int32), (batch, width))
    times = jnp.arange(steps, dtype=np.int32)
    xs = (times, jnp.asarray(step_ids), jnp.asarray(parent_ids))
    _, (beams, wrong, bad) = jax.lax.scan(back, own, xs, reverse=True)
    checks.fail_if(op, bad.any(), "Saw invalid parent id {}", wrong.min() + wrong.max())
    ends = beams == end_token
    ended = jnp.cumsum(ends, axis=0) - ends > 0
    return jnp.where(ended, end_token, beams).astype(np.int32)


gather_tree_op.not_differentiable()


def gather_tree(
    step_ids: Any,
    parent_ids: Any,
    max_sequence_lengths: Any,
    end_token: Any,
    name: str | None = None,
) -> Tensor:
    """The words of each beam's sequence, followed back from its last step; `end_token` behind the first one.

    step_ids, parent_ids: [time, batch, beam] int32, the word chosen and the beam before it. max_sequence_lengths: [batch].
    Raises InvalidArgumentError: a parent that is no beam.
    """
    return raw.GatherTree(step_ids, parent_ids, max_sequence_lengths, end_token, name=name)


def gather_tree_from_array(t: Any, parent_ids: Any, sequence_length: Any) -> Tensor:
    """`t` [time, batch * beam, ...] or [time, batch, beam, ...] with each beam's values following its sequence back.

    parent_ids: [time, batch, beam]. sequence_length: [batch, beam].
    """
    shape = array_ops.shape(parent_ids)
    steps, batch, width = (
        known if known is not None else shape[i]
        for i, known in enumerate(parent_ids.shape._dims or (None,) * 3)
    )
    own = array_ops.reshape(range_(width), [1, 1, -1])
    own = raw.Tile(own, raw.Pack([steps, batch, 1], axis=0))
    longest = cast(reduce_max(sequence_length, axis=1), dtypes.int32)
    beams = gather_tree(own, parent_ids, longest, width + 1)
    within = array_ops.transpose(sequence_mask(sequence_length, maxlen=steps), [2, 0, 1])
    beams = where(within, beams, own)
    zeros = array_ops.zeros_like(beams)
    times = zeros + array_ops.reshape(range_(steps), [-1, 1, 1])
    rows = zeros + array_ops.reshape(range_(batch), [1, -1, 1])
    flat = array_ops.reshape(t, raw.Pack([steps, batch, width, -1], axis=0))
    ordered = gather_nd(flat, stack([times, rows, beams], -1))
    return array_ops.reshape(ordered, array_ops.shape(t))
