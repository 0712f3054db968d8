"""One step of a recurrent network, whatever drives it: sizes, types and states, and what sequences that have ended give."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from headrace.api import array_ops
from headrace.api.cond import cond
from headrace.api.mask_ops import where
from headrace.api.tensor_array import TensorArray
from headrace.core import nest
from headrace.graph import raw
from headrace.graph.tensor import Tensor
from headrace.layers.layer_base import LayerBase
from headrace.layers.rnn_cell_base import RNNCell


def swap_batch_and_time(x: Tensor) -> Tensor:
    """`x` with its first two axes exchanged; `x` itself where it has fewer."""
    dims = x._dims
    if dims is not None and len(dims) < 2:
        return x
    if dims is not None:
        return array_ops.transpose(x, [1, 0, *range(2, len(dims))])
    perm = raw.ConcatV2([[1, 0], raw.Range(2, raw.Rank(x), 1)], 0)
    return array_ops.transpose(x, perm)


def size_along(flat_input: list[Tensor], axis: int) -> Any:
    """The size along `axis`: an int where some input knows it, else a tensor."""
    for tensor in flat_input:
        if tensor._dims is not None:
            if len(tensor._dims) <= axis:
                raise ValueError(f"Expected input tensor {tensor} to have rank at least {axis + 1}")
            if tensor._dims[axis] is not None:
                return tensor._dims[axis]
    return array_ops.shape(flat_input[0])[axis]


def best_effort_batch_size(flat_input: list[Tensor]) -> Any:
    """The batch size of inputs [time, batch, ...]: an int where some input knows it, else a tensor."""
    return size_along(flat_input, 1)


def output_type(explicit: Any, state: Any) -> Any:
    """The type of outputs: as given, else that of all parts of the state. Raises ValueError: none, or several."""
    if explicit is not None:
        return explicit
    if not nest.is_nested(state):
        return state.dtype
    types = [t.dtype for t in nest.flatten(state)]
    if not types:
        raise ValueError("Unable to infer dtype from empty state.")
    if any(t != types[0] for t in types):
        raise ValueError(
            "State has tensors of different inferred_dtypes. Unable to infer a single representative dtype."
        )
    return types[0]


def wraps_its_state(cell: Any) -> bool:
    """Whether the cell wraps its state in a list, as Keras' cells do."""
    return (
        isinstance(cell, LayerBase)
        and not isinstance(cell, RNNCell)
        and getattr(cell, "zero_state", None) is None
    )


def first_state(cell: Any, batch_size: Any, dtype: Any) -> Any:
    """The state that `cell` begins with where none is given. Raises ValueError: no dtype."""
    if not dtype:
        raise ValueError("If there is no initial_state, you must give a dtype.")
    if getattr(cell, "get_initial_state", None) is not None:
        return cell.get_initial_state(inputs=None, batch_size=batch_size, dtype=dtype)
    return cell.zero_state(batch_size, dtype)


def kept_where(finished: Tensor, old: Any, new: Any) -> Any:
    """`new`, but `old` for the rows that are finished; arrays and scalars are new."""

    def leaf(before: Any, after: Any) -> Any:
        if isinstance(before, TensorArray) or before._dims == ():
            return after
        return where(finished, before, after)

    return nest.map_structure(leaf, old, new)


def masked_step(
    time: Any,
    lengths: Tensor,
    shortest: Tensor,
    longest: Tensor,
    zero_output: Any,
    state: Any,
    call_cell: Callable[[], Any],
    skip_conditionals: bool = False,
) -> tuple[Any, Any]:
    """One step: beyond its length a sequence gives zeros and keeps its state.

    skip_conditionals: the cell is called in any case; else not where all sequences are at their ends.
    """

    def called() -> tuple[Any, Any]:
        output, new_state = call_cell()
        nest.assert_same_structure(zero_output, output)
        nest.assert_same_structure(state, new_state)
        return output, new_state

    def masked(output: Any, new_state: Any) -> list[Any]:
        finished = raw.GreaterEqual(time, lengths)
        output = kept_where(finished, zero_output, output)
        return nest.flatten(output) + nest.flatten(kept_where(finished, state, new_state))

    def some() -> list[Any]:
        output, new_state = called()
        return cond(
            raw.Less(time, shortest),
            lambda: nest.flatten(output) + nest.flatten(new_state),
            lambda: masked(output, new_state),
            strict=True,
        )

    count = len(nest.flatten(zero_output))
    if skip_conditionals:
        flat = masked(*called())
    else:
        flat = cond(
            raw.GreaterEqual(time, longest),
            lambda: nest.flatten(zero_output) + nest.flatten(state),
            some,
            strict=True,
        )
    for new, old in zip(flat, nest.flatten(zero_output) + nest.flatten(state), strict=True):
        if not isinstance(new, TensorArray):
            new.set_shape(old.shape)
    return (
        nest.pack_sequence_as(zero_output, flat[:count]),
        nest.pack_sequence_as(state, flat[count:]),
    )
