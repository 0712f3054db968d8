"""`tf.keras.backend`: the session that Keras uses, values of variables, training or not, and the loop over time steps."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from headrace.api import array_ops, join_ops
from headrace.api.cond import cond
from headrace.api.export import PUBLIC, export
from headrace.api.framework import name_scope
from headrace.api.mask_ops import where
from headrace.api.math_ops import cast
from headrace.api.source import placeholder_with_default
from headrace.api.tensor_array import TensorArray
from headrace.api.while_loop import while_loop
from headrace.core import dtypes, nest
from headrace.graph import convert, default, raw
from headrace.graph.tensor import Tensor
from headrace.layers.rnn_step import swap_batch_and_time
from headrace.session.session import Session

# ---- types of numbers

_settings = {"floatx": "float32", "epsilon": 1e-7}


@export("keras.backend.floatx")
def floatx() -> str:
    """The name of the type that Keras' numbers have unless something else is said."""
    return _settings["floatx"]  # type: ignore[return-value]


@export("keras.backend.set_floatx")
def set_floatx(value: str) -> None:
    """Sets `floatx`. Raises ValueError: not float16, float32 or float64."""
    if value not in ("float16", "float32", "float64"):
        raise ValueError(f"Unknown floatx type: {value}")
    _settings["floatx"] = value


@export("keras.backend.epsilon")
def epsilon() -> float:
    """A small number that keeps divisors from being zero."""
    return _settings["epsilon"]  # type: ignore[return-value]


@export("keras.backend.set_epsilon")
def set_epsilon(value: float) -> None:
    """Sets `epsilon`."""
    _settings["epsilon"] = value


# ---- the session

_own = threading.local()


@export("keras.backend.set_session")
def set_session(session: Session) -> None:
    """Makes `session` the one that Keras uses where none is the default."""
    _own.session = session


@export("keras.backend.get_session")
def get_session(op_input_list: Any = ()) -> Session:
    """The default session, else one of Keras' own for the default graph, with all variables of Keras initialised."""
    session = default.get_default_session()
    graph = default.get_default_graph()
    if session is None:
        session = getattr(_own, "session", None)
        if session is None or session.graph is not graph:
            session = _own.session = Session(graph=graph)
    _initialise(session)
    return session


@export("keras.backend.clear_session")
def clear_session() -> None:
    """Forgets Keras' session and the default graph with it."""
    default.reset_default_graph()
    _own.session = None


def _made(graph: Any) -> list[Any]:
    """The variables that Keras has made in a graph."""
    return graph.__dict__.setdefault("_keras_variables", [])


def track_variable(variable: Any) -> None:
    """Notes a variable that `get_session` is to initialise where nobody else has."""
    _made(variable.graph).append(variable)


def _initialise(session: Any) -> None:
    graph = session.graph
    fresh = [v for v in _made(graph) if not getattr(v, "_keras_initialized", False)]
    if not fresh:
        return
    with graph.as_default():
        checks = [PUBLIC["is_variable_initialized"](v) for v in fresh]
    done = session.run(checks)
    missing = [v.initializer for v, ready in zip(fresh, done, strict=True) if not ready]
    for variable in fresh:
        variable._keras_initialized = True
    if missing:
        session.run(missing)


# ---- values of variables


@export("keras.backend.get_value")
def get_value(x: Any) -> Any:
    """The value of a variable."""
    return x.eval(session=get_session())


@export("keras.backend.batch_get_value")
def batch_get_value(tensors: Sequence[Any]) -> list[Any]:
    """The values of several variables."""
    return get_session().run(list(tensors)) if tensors else []


@export("keras.backend.set_value")
def set_value(x: Any, value: Any) -> None:
    """Sets the value of a variable."""
    batch_set_value([(x, value)])


@export("keras.backend.batch_set_value")
def batch_set_value(tuples: Sequence[tuple[Any, Any]]) -> None:
    """Sets the values of several variables, given as (variable, array)."""
    session = get_session() if tuples else None
    for variable, value in tuples:
        variable.load(np.asarray(value, variable.dtype.base_dtype.np_dtype), session)


@export("keras.backend.int_shape")
def int_shape(x: Any) -> tuple[int | None, ...] | None:
    """The static shape as a tuple; None where the rank is unknown."""
    shape = x.shape
    return None if shape.rank is None else tuple(shape.as_list())


@export("keras.backend.zeros")
def zeros(shape: Any, dtype: Any = None, name: str | None = None) -> Any:
    """A variable of zeros; where the shape is not known, a tensor."""
    value = array_ops.zeros(shape, dtype or floatx(), name=name)
    if not value.shape.is_fully_defined():
        return value
    variable = PUBLIC["Variable"](value, use_resource=True, name=name)
    track_variable(variable)
    return variable


# ---- training or not


@export("keras.backend.learning_phase")
def learning_phase() -> Any:
    """Whether a run trains: 0 or 1 where it was set, else a tensor that is fed, false where it is not."""
    graph = default.get_default_graph()
    while graph.building_function:
        graph = graph.outer_graph  # type: ignore[attr-defined]
    phase = graph.__dict__.get("_keras_learning_phase")
    if phase is None:
        with graph.as_default(), name_scope(None):
            phase = placeholder_with_default(False, [], name="keras_learning_phase")
        graph.__dict__["_keras_learning_phase"] = phase
    return phase


@export("keras.backend.set_learning_phase")
def set_learning_phase(value: int) -> None:
    """Sets the phase of the default graph: 0 does not train, 1 does. Raises ValueError: neither."""
    if value not in (0, 1):
        raise ValueError("Expected learning phase to be 0 or 1.")
    default.get_default_graph().__dict__["_keras_learning_phase"] = value


def _chosen(x: Any) -> Any:
    return x() if callable(x) else x


@export("keras.backend.in_train_phase")
def in_train_phase(x: Any, alt: Any, training: Any = None) -> Any:
    """`x` while training, else `alt`; both tensors, or functions that give them. training: by default the phase."""
    phase = learning_phase() if training is None else training
    if not isinstance(phase, Tensor):
        return _chosen(x if phase else alt)
    return cond(cast(phase, dtypes.bool), lambda: _chosen(x), lambda: _chosen(alt))


@export("keras.backend.in_test_phase")
def in_test_phase(x: Any, alt: Any, training: Any = None) -> Any:
    """`alt` while training, else `x`."""
    return in_train_phase(alt, x, training)


# ---- the loop over time steps


def row_count(x: Any, axis: int = 0) -> Any:
    """The size of `x` along an axis, as a tensor."""
    return raw.StridedSlice(array_ops.shape(x), [axis], [axis + 1], [1], shrink_axis_mask=1)


def _kept(mask: Tensor, new: Tensor, old: Tensor) -> Tensor:
    """`new` where the mask [batch, 1, ...] holds, else `old`."""
    for _ in range(len(new.shape) - len(mask.shape)):
        mask = array_ops.expand_dims(mask, -1)
    full = raw.BroadcastTo(mask, array_ops.shape(new))
    return where(full, new, old)


def _masked_step(
    output: Any, states: Any, before: Any, old_states: Sequence[Any], mask: Tensor
) -> tuple[Any, Any]:
    """What a step gives where sequences go on, and what was before where they are masked."""
    output = nest.map_structure(lambda n, o: _kept(mask, n, o), output, before)
    flat = [_kept(mask, n, o) for n, o in zip(nest.flatten(states), old_states, strict=True)]
    return output, nest.pack_sequence_as(states, flat)


@export("keras.backend.rnn")
def rnn(
    step_function: Callable[..., Any],
    inputs: Any,
    initial_states: Any,
    go_backwards: bool = False,
    mask: Any = None,
    constants: Any = None,
    unroll: bool = False,
    input_length: Any = None,
    time_major: bool = False,
    zero_output_for_mask: bool = False,
) -> tuple[Any, Any, Any]:
    """(last output, all outputs, last states) of `step_function(input, states + constants)` over the time steps.

    inputs: [batch, time, ...], or [time, batch, ...] where time_major, or a structure of these. mask: [batch, time]: a step
    that is masked passes the output and the states before it on; with zero_output_for_mask its output is zero.
    unroll: steps as so many copies, in place of a loop. input_length: the number of steps, else that of the inputs.
    Raises ValueError: unroll with an unknown number of steps, a mask without states.
    """
    if not time_major:
        inputs = nest.map_structure(swap_batch_and_time, inputs)
    flat = nest.flatten(inputs)
    for tensor in flat:
        tensor.shape.with_rank_at_least(3)
    known_steps = flat[0]._dims[0]
    constants = tuple(constants or ())
    states = tuple(initial_states)
    if mask is not None:
        if not states:
            raise ValueError("A mask needs states: where a step is masked these stay")
        mask = cast(mask, dtypes.bool)
        if len(mask.shape) == 2:
            mask = array_ops.expand_dims(mask, -1)
        mask = mask if time_major else swap_batch_and_time(mask)
    if go_backwards:
        flat = [raw.ReverseV2(x, [0]) for x in flat]
        mask = None if mask is None else raw.ReverseV2(mask, [0])
    if unroll:
        if not known_steps:
            raise ValueError("Unrolling requires a fixed number of timesteps.")
        run = _unrolled
    else:
        run = _looped

    def step(now: list[Any], mask_now: Any, before: Any, states: Any) -> tuple[Any, Any]:
        output, new_states = step_function(
            nest.pack_sequence_as(inputs, now), tuple(states) + constants
        )
        if mask_now is None:
            return output, new_states
        if before is None:
            before = nest.map_structure(array_ops.zeros_like, output)
        return _masked_step(output, new_states, before, nest.flatten(states), mask_now)

    outputs, last, states = run(step, flat, mask, states, known_steps, input_length)
    if mask is not None and zero_output_for_mask:
        final = mask[-1]
        last = nest.map_structure(lambda x: _kept(final, x, array_ops.zeros_like(x)), last)
        outputs = nest.map_structure(lambda x: _kept(mask, x, array_ops.zeros_like(x)), outputs)
    for tensor, one in zip(nest.flatten(outputs), nest.flatten(last), strict=True):
        tensor.set_shape([known_steps, *one.shape.as_list()])
    if not time_major:
        outputs = nest.map_structure(swap_batch_and_time, outputs)
    return last, outputs, states


def _unrolled(
    step: Callable[..., Any], flat: list[Any], mask: Any, states: Any, steps: Any, _: Any
) -> tuple[Any, Any, Any]:
    columns = [join_ops.unstack(x, num=steps) for x in flat]
    masks = [None] * steps if mask is None else join_ops.unstack(mask, num=steps)
    output, collected = None, []
    for time in range(steps):
        output, states = step([c[time] for c in columns], masks[time], output, states)
        collected.append(output)
    outputs = nest.map_structure(lambda *parts: join_ops.stack(list(parts)), *collected)
    return outputs, output, states


def _looped(
    step: Callable[..., Any], flat: list[Any], mask: Any, states: Any, known: Any, length: Any
) -> tuple[Any, Any, Any]:
    count = row_count(flat[0])
    steps = count if length is None else length
    # The first step outside of the loop says what the outputs look like, and makes what all steps share.
    first, first_states = step(
        [x[0] for x in flat], None if mask is None else mask[0], None, states
    )
    size = count if known is None else known
    arrays = [_array_of(x, size, f"input_ta_{i}") for i, x in enumerate(flat)]
    masks = None if mask is None else _array_of(mask, size, "mask_ta")
    results = [
        TensorArray(o.dtype, size=steps, element_shape=o.shape, tensor_array_name=f"output_ta_{i}")
        for i, o in enumerate(nest.flatten(first))
    ]
    # Only a masked step gives what the step before it gave.
    start = [] if masks is None else [array_ops.zeros_like(o) for o in nest.flatten(first)]
    layout = first_states

    def body(time: Any, results: Any, before: Any, flat_states: Any) -> tuple[Any, ...]:
        output, after = step(
            [a.read(time) for a in arrays],
            None if masks is None else masks.read(time),
            None if masks is None else nest.pack_sequence_as(first, list(before)),
            nest.pack_sequence_as(layout, list(flat_states)),
        )
        written = [a.write(time, o) for a, o in zip(results, nest.flatten(output), strict=True)]
        after = nest.flatten(after)
        for new, old in zip(after, flat_states, strict=True):
            new.set_shape(old.shape)
        return time + 1, written, [] if masks is None else nest.flatten(output), after

    _, results, _, final = while_loop(
        lambda time, *_: raw.Less(time, steps),
        body,
        (
            convert.constant_from_value(0, dtypes.int32, "time"),
            results,
            start,
            nest.flatten(states),
        ),
        parallel_iterations=32,
        maximum_iterations=length,
    )
    outputs = [a.stack() for a in results]
    last = [o[-1] for o in outputs]
    for tensor, one in zip(last, nest.flatten(first), strict=True):
        tensor.set_shape(one.shape)
    return (
        nest.pack_sequence_as(first, outputs),
        nest.pack_sequence_as(first, last),
        nest.pack_sequence_as(layout, list(final)),
    )


def _array_of(x: Tensor, size: Any, name: str) -> TensorArray:
    return TensorArray(x.dtype, size=size, tensor_array_name=name).unstack(x)
