"""Recurrent networks that are unrolled: the cell is called once for each of a list of steps."""

from __future__ import annotations

from typing import Any

from headrace.api import array_ops, join_ops
from headrace.api.export import export
from headrace.api.framework import control_dependencies
from headrace.api.gather_ops import reverse_sequence
from headrace.api.math_ops import cast
from headrace.api.reduction import reduce_max, reduce_min
from headrace.api.source import identity
from headrace.api.variable_scope import variable_scope
from headrace.core import dtypes, nest
from headrace.graph import convert
from headrace.graph.tensor import Tensor
from headrace.layers.rnn_cell_base import assert_like_rnncell, zeros_of_size
from headrace.layers.rnn_step import first_state, masked_step, output_type, wraps_its_state


@export("nn.static_rnn")
def static_rnn(
    cell: Any,
    inputs: Any,
    initial_state: Any = None,
    dtype: Any = None,
    sequence_length: Any = None,
    scope: Any = None,
) -> tuple[list[Any], Any]:
    """(list of outputs, last state) of `cell` called once for each of `inputs`, a list of tensors [batch, ...].

    sequence_length: as for `dynamic_rnn`; where all sequences are at their ends, the cell is not called.
    Raises TypeError: no cell, inputs no sequence. ValueError: no inputs, unknown sizes, neither initial_state nor dtype.
    """
    assert_like_rnncell("cell", cell)
    if not nest.is_nested(inputs):
        raise TypeError("inputs must be a sequence")
    if not inputs:
        raise ValueError("inputs must not be empty")
    outputs = []
    with variable_scope(scope or "rnn") as opened:
        flat = nest.flatten(inputs)
        known_batch = _common_batch_size(flat)
        batch_size = known_batch or array_ops.shape(flat[0])[0]
        if initial_state is not None:
            state = initial_state
        else:
            if not dtype:
                raise ValueError("If no initial_state is provided, dtype must be specified")
            state = first_state(cell, batch_size, dtype)
        if sequence_length is not None:
            lengths = convert.convert_to_tensor(sequence_length, name="sequence_length")
            if lengths._dims is not None and len(lengths._dims) != 1:
                raise ValueError("sequence_length must be a vector of length batch_size")
            lengths = cast(lengths, dtypes.int32)
            shortest, longest = reduce_min(lengths), reduce_max(lengths)
            kind = output_type(dtype, state)
            zero_output = nest.map_structure(
                lambda size: zeros_of_size(batch_size, size, kind), cell.output_size
            )
        wraps_state = wraps_its_state(cell)
        if wraps_state and not nest.is_nested(state):
            state = [state]
        for time, now in enumerate(inputs):
            if time > 0:
                opened.reuse_variables()
            if sequence_length is None:
                output, state = cell(now, state)
            else:
                output, state = masked_step(
                    time,
                    lengths,
                    shortest,
                    longest,
                    zero_output,
                    state,
                    lambda now=now, state=state: cell(now, state),
                )
            outputs.append(output)
        if wraps_state and len(state) == 1:
            state = state[0]
        return outputs, state


def _common_batch_size(flat: list[Tensor]) -> int | None:
    first = flat[0].shape
    if first.rank == 1:
        return first._dims[0]
    size = first.with_rank_at_least(2).dims[0]
    for tensor in flat:
        shape = tensor.shape.with_rank_at_least(2)
        size = size.merge_with(shape.dims[0])
        for i, depth in enumerate(shape._dims[1:]):
            if depth is None:
                raise ValueError(
                    f"Input size (dimension {i} of inputs) must be accessible via shape inference, but saw value None."
                )
    return size.value


@export("nn.static_state_saving_rnn")
def static_state_saving_rnn(
    cell: Any,
    inputs: Any,
    state_saver: Any,
    state_name: Any,
    sequence_length: Any = None,
    scope: Any = None,
) -> tuple[list[Any], Any]:
    """As `static_rnn`, beginning with `state_saver.state(name)` and leaving the last state with `state_saver.save_state`.

    state_name: a name for each part of the state, in a tuple where the state is one. The last output waits for the saving.
    Raises ValueError: names that do not fit the state.
    """
    sizes = cell.state_size
    if nest.is_nested(sizes) != nest.is_nested(state_name):
        raise ValueError(
            f"state_name should be the same type as cell.state_size.  state_name: {state_name}, cell.state_size: {sizes}"
        )
    names = nest.flatten(state_name)
    if len(names) != len(nest.flatten(sizes)):
        raise ValueError(
            f"#elems(state_name) != #elems(state_size): {len(names)} vs. {len(nest.flatten(sizes))}"
        )
    initial = nest.pack_sequence_as(sizes, [state_saver.state(n) for n in names])
    outputs, state = static_rnn(
        cell, inputs, initial_state=initial, sequence_length=sequence_length, scope=scope
    )
    saved = [state_saver.save_state(n, s) for n, s in zip(names, nest.flatten(state), strict=True)]
    with control_dependencies(saved):
        outputs[-1] = nest.map_structure(identity, outputs[-1])
        state = nest.map_structure(identity, state)
    return outputs, state


def _reversed_list(steps: list[Any], lengths: Any) -> list[Any]:
    """The steps of sequences in reverse order, each sequence by itself up to its length."""
    if lengths is None:
        return list(reversed(steps))
    columns = []
    for column in zip(*(nest.flatten(s) for s in steps), strict=True):
        turned = reverse_sequence(
            input=join_ops.stack(list(column)), seq_lengths=lengths, seq_axis=0, batch_axis=1
        )
        columns.append(join_ops.unstack(turned, num=len(steps)))
    return [
        nest.pack_sequence_as(step, list(parts))
        for step, parts in zip(steps, zip(*columns, strict=True), strict=True)
    ]


@export("nn.static_bidirectional_rnn")
def static_bidirectional_rnn(
    cell_fw: Any,
    cell_bw: Any,
    inputs: Any,
    initial_state_fw: Any = None,
    initial_state_bw: Any = None,
    dtype: Any = None,
    sequence_length: Any = None,
    scope: Any = None,
) -> tuple[list[Any], Any, Any]:
    """(outputs of both cells side by side, last state, last state backwards) of two cells, one from each end."""
    assert_like_rnncell("cell_fw", cell_fw)
    assert_like_rnncell("cell_bw", cell_bw)
    if not nest.is_nested(inputs):
        raise TypeError("inputs must be a sequence")
    if not inputs:
        raise ValueError("inputs must not be empty")
    with variable_scope(scope or "bidirectional_rnn"):
        with variable_scope("fw") as forward_scope:
            output_fw, state_fw = static_rnn(
                cell_fw, inputs, initial_state_fw, dtype, sequence_length, scope=forward_scope
            )
        with variable_scope("bw") as backward_scope:
            output_bw, state_bw = static_rnn(
                cell_bw,
                _reversed_list(inputs, sequence_length),
                initial_state_bw,
                dtype,
                sequence_length,
                scope=backward_scope,
            )
    output_bw = _reversed_list(output_bw, sequence_length)
    joined = [
        join_ops.concat([f, b], 1)
        for f, b in zip(nest.flatten(output_fw), nest.flatten(output_bw), strict=True)
    ]
    return nest.pack_sequence_as(output_fw, joined), state_fw, state_bw
