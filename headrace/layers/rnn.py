"""Recurrent networks in a loop: `dynamic_rnn` over the steps of its inputs, `raw_rnn` as a function steers it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from headrace.api import array_ops, join_ops
from headrace.api.export import PUBLIC, export
from headrace.api.framework import control_dependencies
from headrace.api.gather_ops import reverse_sequence
from headrace.api.math_ops import cast
from headrace.api.reduction import reduce_all, reduce_max, reduce_min
from headrace.api.source import identity
from headrace.api.tensor_array import TensorArray
from headrace.api.variable_scope import variable_scope
from headrace.api.while_loop import while_loop
from headrace.core import dtypes, nest
from headrace.core.tensor_shape import TensorShape
from headrace.graph import convert, raw
from headrace.graph.constant_value import constant_value
from headrace.graph.tensor import Tensor
from headrace.layers.rnn_cell_base import assert_like_rnncell, static_shape, zeros_of_size
from headrace.layers.rnn_step import (
    first_state,
    kept_where,
    masked_step,
    output_type,
    size_along,
    swap_batch_and_time,
    wraps_its_state,
)


@export("nn.dynamic_rnn")
def dynamic_rnn(
    cell: Any,
    inputs: Any,
    sequence_length: Any = None,
    initial_state: Any = None,
    dtype: Any = None,
    parallel_iterations: int | None = None,
    swap_memory: bool = False,
    time_major: bool = False,
    scope: Any = None,
) -> tuple[Any, Any]:
    """(outputs, last state) of `cell` over the time steps of `inputs`, in a loop.

    inputs: [batch, time, ...], or [time, batch, ...] where time_major, or a structure of such tensors; outputs in the same
    order. sequence_length: a vector of the sequences' lengths: beyond, outputs are zero and the state stays. initial_state:
    zeros of `dtype` where None. parallel_iterations, swap_memory: accepted.
    Raises TypeError: no cell. ValueError: neither initial_state nor dtype, unknown depths, different times or batch sizes.
    """
    assert_like_rnncell("cell", cell)
    with variable_scope(scope or "rnn"):
        flat = [convert.convert_to_tensor(x) for x in nest.flatten(inputs)]
        if not time_major:
            flat = [swap_batch_and_time(x) for x in flat]
        inputs = nest.pack_sequence_as(inputs, flat)
        if sequence_length is not None:
            sequence_length = convert.convert_to_tensor(sequence_length)
            if sequence_length._dims is not None and len(sequence_length._dims) != 1:
                raise ValueError(
                    f"sequence_length must be a vector of length batch_size, but saw shape: {sequence_length.shape}"
                )
            sequence_length = identity(cast(sequence_length, dtypes.int32), name="sequence_length")
        batch_size = size_along(flat, 1)
        if initial_state is not None:
            state = nest.map_structure(
                lambda s: s if isinstance(s, TensorArray) else convert.convert_to_tensor(s),
                initial_state,
            )
        else:
            state = first_state(cell, batch_size, dtype)
        if sequence_length is not None:
            sequence_length = _checked_lengths(sequence_length, batch_size)
        outputs, state = _loop(
            cell,
            inputs,
            state,
            batch_size,
            sequence_length,
            dtype,
            parallel_iterations or 32,
            swap_memory,
        )
        if not time_major:
            outputs = nest.map_structure(swap_batch_and_time, outputs)
        return outputs, state


def _checked_lengths(lengths: Tensor, batch_size: Any) -> Tensor:
    """`lengths`, which must be as many as there are sequences: looked at now if possible, else when the graph runs."""
    known = lengths._dims[0] if lengths._dims else None
    if isinstance(batch_size, int) and known is not None and known == batch_size:
        return lengths
    shape = array_ops.shape(lengths)
    expected = join_ops.stack([batch_size])
    check = PUBLIC["Assert"](
        reduce_all(raw.Equal(shape, expected)),
        [
            f"Expected shape for Tensor {lengths.name} is ",
            expected,
            " but saw shape: ",
            shape,
        ],
    )
    with control_dependencies([check]):
        return identity(lengths, name="CheckSeqLen")


def _check_sizes(flat_input: list[Tensor]) -> tuple[int | None, int | None]:
    """(time steps, batch size) as far as known. Raises ValueError: inputs differ in them, or a depth is unknown."""
    shapes = [x.shape.with_rank_at_least(3)._dims for x in flat_input]
    steps, batch = shapes[0][:2]  # type: ignore[index]
    for dims in shapes:
        if any(d is None for d in dims[2:]):  # type: ignore[index]
            raise ValueError(
                "Input size (depth of inputs) must be accessible via shape inference, but saw value None."
            )
        if dims[0] != steps:  # type: ignore[index]
            raise ValueError(
                "Time steps is not the same for all the elements in the input in a batch."
            )
        if dims[1] != batch:  # type: ignore[index]
            raise ValueError("Batch_size is not the same for all the elements in the input.")
    return steps, batch


def _loop(
    cell: Any,
    inputs: Any,
    state: Any,
    batch_size: Any,
    lengths: Tensor | None,
    dtype: Any,
    parallel_iterations: int,
    swap_memory: bool,
) -> tuple[Any, Any]:
    """Outputs [time, batch, ...] and the last state, for inputs [time, batch, ...]."""
    flat_input = nest.flatten(inputs)
    sizes = nest.flatten(cell.output_size)
    steps = array_ops.shape(flat_input[0])[0]
    known_steps, known_batch = _check_sizes(flat_input)
    kind = output_type(dtype, state)
    zero_output = nest.pack_sequence_as(
        cell.output_size, [zeros_of_size(batch_size, size, kind) for size in sizes]
    )
    if lengths is not None:
        shortest, longest = reduce_min(lengths), reduce_max(lengths)
    else:
        longest = steps
    time = convert.constant_from_value(0, dtypes.int32, "time")
    results = tuple(
        TensorArray(
            kind,
            size=steps,
            element_shape=static_shape(known_batch, size),
            name=f"output_{i}",
        )
        for i, size in enumerate(sizes)
    )
    sources = tuple(
        TensorArray(x.dtype, size=steps, element_shape=x.shape[1:], name=f"input_{i}").unstack(x)
        for i, x in enumerate(flat_input)
    )
    wraps_state = wraps_its_state(cell)

    def step(time: Tensor, arrays: tuple[TensorArray, ...], state: Any) -> Any:
        parts = [a.read(time) for a in sources]
        for part, x in zip(parts, flat_input, strict=True):
            part.set_shape(x.shape[1:])
        now = nest.pack_sequence_as(inputs, parts)
        if wraps_state and not nest.is_nested(state):
            state = [state]
        if lengths is None:
            output, new_state = cell(now, state)
        else:
            output, new_state = masked_step(
                time,
                lengths,
                shortest,
                longest,
                zero_output,
                state,
                lambda: cell(now, state),
                skip_conditionals=True,
            )
        if wraps_state and len(new_state) == 1:
            new_state = new_state[0]
        written = tuple(a.write(time, v) for a, v in zip(arrays, nest.flatten(output), strict=True))
        return time + 1, written, new_state

    # One step is made in any case: it says what shape the outputs have.
    bound = raw.Minimum(steps, raw.Maximum(1, longest))
    _, results, state = while_loop(
        lambda time, *_: raw.Less(time, bound),
        step,
        (time, results, state),
        parallel_iterations=parallel_iterations,
        maximum_iterations=steps,
        swap_memory=swap_memory,
    )
    outputs = [a.stack() for a in results]
    for output, size in zip(outputs, sizes, strict=True):
        output.set_shape(TensorShape([known_steps]).concatenate(static_shape(known_batch, size)))
    return nest.pack_sequence_as(cell.output_size, outputs), state


def _reversed(x: Tensor, lengths: Any, time_axis: int, batch_axis: int) -> Tensor:
    if lengths is not None:
        return reverse_sequence(
            input=x, seq_lengths=lengths, seq_axis=time_axis, batch_axis=batch_axis
        )
    return raw.ReverseV2(x, [time_axis])


@export("nn.bidirectional_dynamic_rnn")
def bidirectional_dynamic_rnn(
    cell_fw: Any,
    cell_bw: Any,
    inputs: Any,
    sequence_length: Any = None,
    initial_state_fw: Any = None,
    initial_state_bw: Any = None,
    dtype: Any = None,
    parallel_iterations: int | None = None,
    swap_memory: bool = False,
    time_major: bool = False,
    scope: Any = None,
) -> tuple[tuple[Any, Any], tuple[Any, Any]]:
    """((outputs, outputs backwards), (last state, last state backwards)) of two cells, one from each end (see `dynamic_rnn`)."""
    assert_like_rnncell("cell_fw", cell_fw)
    assert_like_rnncell("cell_bw", cell_bw)
    time_axis, batch_axis = (0, 1) if time_major else (1, 0)

    def backwards(value: Any) -> Any:
        return nest.map_structure(
            lambda x: _reversed(x, sequence_length, time_axis, batch_axis), value
        )

    options = dict(
        sequence_length=sequence_length,
        dtype=dtype,
        parallel_iterations=parallel_iterations,
        swap_memory=swap_memory,
        time_major=time_major,
    )
    with variable_scope(scope or "bidirectional_rnn"):
        with variable_scope("fw") as forward_scope:
            output_fw, state_fw = dynamic_rnn(
                cell_fw, inputs, initial_state=initial_state_fw, scope=forward_scope, **options
            )
        with variable_scope("bw") as backward_scope:
            output_bw, state_bw = dynamic_rnn(
                cell_bw,
                backwards(inputs),
                initial_state=initial_state_bw,
                scope=backward_scope,
                **options,
            )
    return (output_fw, backwards(output_bw)), (state_fw, state_bw)


# ---- raw_rnn


@export("nn.raw_rnn")
def raw_rnn(
    cell: Any,
    loop_fn: Callable[..., Any],
    parallel_iterations: int | None = None,
    swap_memory: bool = False,
    scope: Any = None,
) -> tuple[Any, Any, Any]:
    """(arrays of outputs, last state, last loop state) of a cell in a loop that `loop_fn` steers.

    loop_fn(time, cell_output, cell_state, loop_state) gives (finished, next_input, next_cell_state, emit_output,
    next_loop_state); the first call, with None for all but the time, gives the first input and state and, by its
    emit_output, the structure of what is emitted (None: that of the outputs). finished: a bool for each sequence; finished
    sequences emit zeros and keep their state; the loop ends when all are.
    Raises TypeError: no cell, loop_fn that is not callable.
    """
    assert_like_rnncell("cell", cell)
    if not callable(loop_fn):
        raise TypeError("loop_fn must be a callable")
    with variable_scope(scope or "rnn"):
        time = convert.constant_from_value(0, dtypes.int32, None)
        finished, next_input, state, emitted, first_loop_state = loop_fn(time, None, None, None)
        flat_input = nest.flatten(next_input)
        loop_state = (
            first_loop_state
            if first_loop_state is not None
            else convert.constant_from_value(0, dtypes.int32, None)
        )
        batch_size = size_along(flat_input, 0)
        known_batch = batch_size if isinstance(batch_size, int) else None
        nest.assert_same_structure(state, cell.state_size)
        state = nest.map_structure(
            lambda s: s if isinstance(s, TensorArray) else convert.convert_to_tensor(s), state
        )
        if emitted is not None:
            emitted = nest.map_structure(convert.convert_to_tensor, emitted)
            sizes = [
                e.shape if e.shape.is_fully_defined() else array_ops.shape(e)
                for e in nest.flatten(emitted)
            ]
            types = [e.dtype for e in nest.flatten(emitted)]
        else:
            emitted = cell.output_size
            sizes = nest.flatten(emitted)
            types = [nest.flatten(state)[0].dtype] * len(sizes)
        arrays = nest.pack_sequence_as(
            emitted,
            [
                TensorArray(
                    kind,
                    size=0,
                    dynamic_size=True,
                    element_shape=static_shape(known_batch, _static(size)),
                    name=f"rnn_output_{i}",
                )
                for i, (kind, size) in enumerate(zip(types, sizes, strict=True))
            ],
        )
        zero_emit = nest.pack_sequence_as(
            emitted,
            [zeros_of_size(batch_size, s, k) for s, k in zip(sizes, types, strict=True)],
        )

        def goes_on(_: Any, finished: Tensor, *rest: Any) -> Tensor:
            return raw.LogicalNot(reduce_all(finished))

        def step(
            time: Tensor, finished: Tensor, current: Any, arrays: Any, state: Any, loop_state: Any
        ) -> tuple[Any, ...]:
            output, cell_state = cell(current, state)
            nest.assert_same_structure(state, cell_state)
            nest.assert_same_structure(cell.output_size, output)
            next_time = time + 1
            ends, following, next_state, emit, next_loop_state = loop_fn(
                next_time, output, cell_state, loop_state
            )
            nest.assert_same_structure(state, next_state)
            nest.assert_same_structure(current, following)
            nest.assert_same_structure(arrays, emit)
            if next_loop_state is not None:
                loop_state = next_loop_state
            emit = kept_where(finished, zero_emit, emit)
            next_state = kept_where(finished, state, next_state)
            arrays = nest.map_structure(lambda a, e: a.write(time, e), arrays, emit)
            return (
                next_time,
                raw.LogicalOr(finished, ends),
                following,
                arrays,
                next_state,
                loop_state,
            )

        returned = while_loop(
            goes_on,
            step,
            [time, finished, next_input, arrays, state, loop_state],
            parallel_iterations=parallel_iterations or 32,
            swap_memory=swap_memory,
        )
        arrays, state, loop_state = returned[-3:]
        return arrays, state, None if first_loop_state is None else loop_state


def _static(size: Any) -> Any:
    if not isinstance(size, Tensor):
        return size
    value = constant_value(size)
    return TensorShape(None) if value is None else TensorShape(value.tolist())
