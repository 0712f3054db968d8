"""`tf.data.experimental`: elements grouped by a key."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from headrace.api.export import export
from headrace.core import dtypes
from headrace.core.tensor_shape import TensorShape, as_shape
from headrace.data import nodes, structure
from headrace.data.dataset import DatasetSpec, DatasetV2, NodeDataset
from headrace.data.experimental.transformations import Apply
from headrace.data.function import StructuredFunction
from headrace.data.nodes import Node
from headrace.data.reduce import stateful_function
from headrace.graph import default, raw
from headrace.graph.convert import convert_to_tensor
from headrace.graph.sparse_tensor import SparseTensorSpec
from headrace.graph.tensor import Tensor
from headrace.graph.type_spec import TensorSpec

_KEY = TensorSpec([], dtypes.int64)


def _number_function(
    function: Callable[..., Any], transformation: str, spec: Any, what: str
) -> StructuredFunction:
    """A function that returns a scalar int64. Raises ValueError: it does not."""

    def wrapped(*args: Any) -> Tensor:
        return convert_to_tensor(function(*args), dtypes.int64)

    made = StructuredFunction(wrapped, transformation, spec)
    if not made.output_spec.is_compatible_with(_KEY):
        raise ValueError(f"`{what}` must return a single tf.int64 scalar tensor.")
    return made


@export("data.experimental.group_by_window")
def group_by_window(
    key_func: Callable[..., Any],
    reduce_func: Callable[..., Any],
    window_size: Any = None,
    window_size_func: Callable[..., Any] | None = None,
) -> Apply:
    """The datasets that `reduce_func(key, dataset)` makes of up to so many elements of one key.

    key_func: gives the key (int64) of an element. window_size, or window_size_func(key): how many elements.
    Raises ValueError: neither or both of the two. TypeError, ValueError, when applied: functions that return something else.
    """
    if (window_size is None) == (window_size_func is None):
        raise ValueError("Must pass either window_size or window_size_func.")

    def constant_size(key: Any) -> Any:
        return nodes.int64(window_size, "window_size")

    size_of = constant_size if window_size_func is None else window_size_func

    def apply(dataset: DatasetV2) -> DatasetV2:
        name = "tf.data.experimental.group_by_window()"
        spec = dataset.element_spec
        key = _number_function(key_func, name, spec, "key_func")
        reduce = StructuredFunction(reduce_func, name, (_KEY, DatasetSpec(spec)))
        if not isinstance(reduce.output_spec, DatasetSpec):
            raise TypeError("`reduce_func` must return a `Dataset` object.")
        size = _number_function(size_of, name, _KEY, "window_size_func")
        output = reduce.output_spec._element_spec
        variant = raw.GroupByWindowDataset(
            input_dataset=dataset._variant_tensor,
            key_func_other_arguments=key.captured,
            reduce_func_other_arguments=reduce.captured,
            window_size_func_other_arguments=size.captured,
            key_func=key.ref,
            reduce_func=reduce.ref,
            window_size_func=size.ref,
            **structure.attrs_of(output),
        )
        return NodeDataset(Node(variant, output, (key, reduce, size)), [dataset])

    return apply


@export("data.experimental.Reducer")
class Reducer:
    """A reduction: init_func(key) gives a state, reduce_func(state, element) the next, finalize_func(state) the result."""

    def __init__(
        self,
        init_func: Callable[..., Any],
        reduce_func: Callable[..., Any],
        finalize_func: Callable[..., Any],
    ) -> None:
        self._functions = init_func, reduce_func, finalize_func

    @property
    def init_func(self) -> Callable[..., Any]:
        """Gives the first state for a key."""
        return self._functions[0]

    @property
    def reduce_func(self) -> Callable[..., Any]:
        """Gives the next state."""
        return self._functions[1]

    @property
    def finalize_func(self) -> Callable[..., Any]:
        """Gives the result."""
        return self._functions[2]


@export("data.experimental.group_by_reducer")
def group_by_reducer(key_func: Callable[..., Any], reducer: Reducer) -> Apply:
    """One element for each key: what `reducer` makes of the elements of the key.

    Raises TypeError, ValueError, when applied: functions that return something else.
    """

    def apply(dataset: DatasetV2) -> DatasetV2:
        name = "tf.data.experimental.group_by_reducer()"
        spec = dataset.element_spec
        key = _number_function(key_func, name, spec, "key_func")
        init = StructuredFunction(reducer.init_func, name, _KEY)
        reduce, state = stateful_function(
            reducer.reduce_func, name, init.output_spec, spec, lambda output: output
        )
        finalize = StructuredFunction(reducer.finalize_func, name, state)
        output = finalize.output_spec
        variant = raw.GroupByReducerDataset(
            input_dataset=dataset._variant_tensor,
            key_func_other_arguments=key.captured,
            init_func_other_arguments=init.captured,
            reduce_func_other_arguments=reduce.captured,
            finalize_func_other_arguments=finalize.captured,
            key_func=key.ref,
            init_func=init.ref,
            reduce_func=reduce.ref,
            finalize_func=finalize.ref,
            **structure.attrs_of(output),
        )
        return NodeDataset(Node(variant, output, (key, init, reduce, finalize)), [dataset])

    return apply


@export("data.experimental.bucket_by_sequence_length")
def bucket_by_sequence_length(
    element_length_func: Callable[..., Any],
    bucket_boundaries: Sequence[int],
    bucket_batch_sizes: Sequence[int],
    padded_shapes: Any = None,
    padding_values: Any = None,
    pad_to_bucket_boundary: bool = False,
    no_padding: bool = False,
    drop_remainder: bool = False,
) -> Apply:
    """Batches of elements of similar length, padded.

    bucket_boundaries: the lengths at which the next bucket begins; bucket_batch_sizes: one more. padded_shapes: those of
    the elements where None. pad_to_bucket_boundary: all batches of a bucket have its largest length. no_padding: for
    sparse tensors. Raises ValueError: another number of batch sizes.
    """
    if len(bucket_batch_sizes) != len(bucket_boundaries) + 1:
        raise ValueError("len(bucket_batch_sizes) must equal len(bucket_boundaries) + 1")
    sizes = np.asarray(bucket_batch_sizes, np.int64)
    lowest = np.array([np.iinfo(np.int32).min, *bucket_boundaries], np.int32)
    highest = np.array([*bucket_boundaries, np.iinfo(np.int32).max], np.int32)

    def bucket_of(*element: Any) -> Tensor:
        length = raw.Cast(x=element_length_func(*element), DstT=dtypes.int32)
        inside = raw.LogicalAnd(
            x=raw.LessEqual(x=convert_to_tensor(lowest), y=length),
            y=raw.Less(x=length, y=convert_to_tensor(highest)),
        )
        return raw.Min(input=raw.Where(input=inside), reduction_indices=[0, 1])

    def size_of(bucket: Tensor) -> Tensor:
        return raw.GatherV2(params=convert_to_tensor(sizes), indices=bucket, axis=0)

    def batch(bucket: Tensor, grouped: DatasetV2) -> DatasetV2:
        size = size_of(bucket)
        if no_padding:
            return grouped.batch(size, drop_remainder=drop_remainder)
        filler = None
        if pad_to_bucket_boundary:
            boundaries = convert_to_tensor(np.asarray(bucket_boundaries, np.int64))
            last = raw.Less(x=bucket, y=nodes.int64(len(bucket_boundaries), "last"))
            checks = [raw.Assert(condition=last, data=["element is longer than the last bucket"])]
            with default.get_default_graph().control_dependencies(checks):
                bound = raw.GatherV2(params=boundaries, indices=bucket, axis=0)
                filler = raw.Sub(x=bound, y=nodes.int64(1, "one"))
        given = padded_shapes
        if given is None:
            given = structure.legacy_shapes(grouped.element_spec)
        flat = structure.flatten_up_to(structure.legacy_shapes(grouped.element_spec), given)
        shapes = structure.pack_sequence_as(
            structure.legacy_shapes(grouped.element_spec), [_filled(s, filler) for s in flat]
        )
        return grouped.padded_batch(size, shapes, padding_values, drop_remainder=drop_remainder)

    def apply(dataset: DatasetV2) -> DatasetV2:
        sparse = any(
            isinstance(s, SparseTensorSpec) for s in structure.flatten(dataset.element_spec)
        )
        if sparse and not no_padding:
            raise TypeError("Batching of padded sparse tensors is not currently supported")
        return dataset.apply(group_by_window(bucket_of, batch, window_size_func=size_of))

    return apply


def _filled(shape: Any, filler: Tensor | None) -> Any:
    """The shape with `filler` for what is unknown."""
    static: TensorShape = as_shape(shape)
    if filler is None or static.is_fully_defined():
        return static
    sizes = [filler if d is None else nodes.int64(d, "size") for d in static.as_list()]
    return raw.Pack(values=sizes)
