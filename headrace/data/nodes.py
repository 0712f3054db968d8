"""The nodes of transformations: each function adds those of one, and says what the elements of the result are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from headrace.api.framework import name_scope
from headrace.api.random_seed import get_seed
from headrace.core import dtypes
from headrace.core.tensor_shape import TensorShape, as_shape
from headrace.data import structure
from headrace.data.function import StructuredFunction
from headrace.graph import raw
from headrace.graph.constant_value import constant_value, constant_value_as_shape
from headrace.graph.convert import convert_to_tensor
from headrace.graph.sparse_tensor import SparseTensor, SparseTensorSpec
from headrace.graph.tensor import Tensor
from headrace.graph.type_spec import TensorSpec


class Node(NamedTuple):
    """A dataset's variant, the description of its elements, and the functions that it keeps."""

    variant: Tensor
    spec: Any
    functions: Sequence[StructuredFunction] = ()


def int64(value: Any, name: str) -> Tensor:
    """An argument of a transformation. Raises TypeError, ValueError: no int64."""
    return convert_to_tensor(value, dtypes.int64, name)


def boolean(value: Any, name: str) -> Tensor:
    """An argument of a transformation. Raises TypeError, ValueError: no bool."""
    return convert_to_tensor(value, dtypes.bool, name)


def seeds(seed: Any) -> tuple[Tensor, Tensor]:
    """The two seeds of an operation as tensors; (0, 0): anew in each iterator."""
    if isinstance(seed, Tensor):
        from headrace.api.random_seed import DEFAULT_GRAPH_SEED
        from headrace.graph.default import get_default_graph

        graph_seed = get_default_graph().seed
        first, second = DEFAULT_GRAPH_SEED if graph_seed is None else graph_seed, seed
    else:
        first, second = get_seed(seed)
    first = int64(0 if first is None else first, "seed")
    if second is None:
        return first, int64(0, "seed2")
    with name_scope("seed2") as scope:
        second = int64(second, "Const")
        both = raw.LogicalAnd(
            x=raw.Equal(x=first, y=int64(0, "Equal/y")),
            y=raw.Equal(x=second, y=int64(0, "Equal_1/y")),
        )
        return first, raw.Select(condition=both, t=int64(2**31 - 1, "Const"), e=second, name=scope)


# ---- sources


def tensors(element: Any) -> Node:
    """One element."""
    element = structure.normalize(element)
    spec = structure.spec_of(element)
    flat = structure.to_tensors(spec, element)
    shapes = structure.flat_shapes(spec)
    return Node(raw.TensorDataset(components=flat, output_shapes=shapes), spec)


def tensor_slices(element: Any) -> Node:
    """The slices along the first axis. Raises ValueError: scalars, or different lengths."""
    element = structure.normalize(element)
    batched = structure.spec_of(element)
    flat = structure.to_batched_tensors(batched, element)
    spec = structure.map_structure(lambda s: s._unbatch(), batched)
    count = flat[0].shape[:1]
    for tensor in flat[1:]:
        tensor.shape[:1].assert_is_compatible_with(count)
    shapes = structure.flat_shapes(spec)
    return Node(raw.TensorSliceDataset(components=flat, output_shapes=shapes), spec)


def sparse_tensor_slices(sparse: Any) -> Node:
    """The slices of a sparse tensor: indices, values and shape of each. Raises TypeError: not sparse."""
    if not isinstance(sparse, SparseTensor):
        raise TypeError(f"`sparse_tensor` must be a `tf.SparseTensor` object. Was {sparse}.")
    rank = sparse.indices.shape[1:2].merge_with(sparse.dense_shape.shape[:1])._dims[0]  # type: ignore[index]
    rank = None if rank is None else rank - 1
    spec = (
        TensorSpec([None, rank], dtypes.int64),
        TensorSpec([None], sparse.dtype),
        TensorSpec([rank], dtypes.int64),
    )
    parts = {
        "indices": sparse.indices,
        "values": sparse.values,
        "dense_shape": sparse.dense_shape,
    }
    return Node(raw.SparseTensorSliceDataset(**parts), spec)


def range_of(*arguments: Any) -> Node:
    """Numbers as Python's `range` gives them. Raises ValueError: not one to three arguments."""
    if not 1 <= len(arguments) <= 3:
        raise ValueError(f"Invalid arguments to RangeDataset: {arguments}")
    start, stop, step = (0, arguments[0], 1) if len(arguments) == 1 else (*arguments, 1)[:3]
    bounds = {"start": int64(start, "start"), "stop": int64(stop, "stop")}
    spec = TensorSpec([], dtypes.int64)
    return Node(
        raw.RangeDataset(**bounds, step=int64(step, "step"), **structure.attrs_of(spec)), spec
    )


def generator(
    arguments: Any,
    init: Callable[..., Any],
    following: Callable[..., Any],
    finalize: Callable[..., Any],
) -> Node:
    """Elements that `following` makes of the state that `init(*arguments)` gives, until it raises OutOfRangeError."""
    name = "Dataset.from_generator()"
    given = structure.spec_of(arguments)
    first = StructuredFunction(init, name, given)
    step = StructuredFunction(following, name, first.output_spec)
    last = StructuredFunction(finalize, name, first.output_spec)
    spec = step.output_spec
    variant = raw.GeneratorDataset(
        init_func_other_args=[*structure.to_tensors(given, arguments), *first.captured],
        next_func_other_args=step.captured,
        finalize_func_other_args=last.captured,
        init_func=first.ref,
        next_func=step.ref,
        finalize_func=last.ref,
        **structure.attrs_of(spec),
    )
    return Node(variant, spec, (first, step, last))


# ---- order


def unchanged(op_type: str, source: Any, **arguments: Any) -> Node:
    """A node whose elements are those of its input."""
    spec = source.element_spec
    variant = getattr(raw, op_type)(
        input_dataset=source._variant_tensor, **arguments, **structure.attrs_of(spec)
    )
    return Node(variant, spec)


def zipped(datasets: Any, dataset_class: type) -> Node:
    """Elements side by side. Raises TypeError: not a structure of datasets."""
    flat = structure.flatten(datasets)
    for dataset in flat:
        if not isinstance(dataset, dataset_class):
            hint = " Nested structures do not support Python lists; please use a tuple instead."
            raise TypeError(
                "The argument to `Dataset.zip()` must be a nested structure of `Dataset` objects."
                + (hint if isinstance(dataset, list) else "")
            )
    spec = structure.pack_sequence_as(datasets, [d.element_spec for d in flat])
    variants = [d._variant_tensor for d in flat]
    return Node(raw.ZipDataset(input_datasets=variants, **structure.attrs_of(spec)), spec)


def concatenated(first: Any, second: Any) -> Node:
    """One after the other. Raises TypeError: other types or classes; ValueError: another structure."""
    specs = first.element_spec, second.element_spec
    for what, of in (("types", structure.legacy_types), ("classes", structure.legacy_classes)):
        a, b = map(of, specs)
        if a != b:
            raise TypeError(f"Two datasets to concatenate have different {what} {a} and {b}")
    pairs = zip(*(structure.flatten(structure.legacy_shapes(s)) for s in specs), strict=True)
    shapes = [
        a if not hasattr(a, "_dims") else a.most_specific_compatible_shape(b) for a, b in pairs
    ]
    spec = structure.from_legacy(
        structure.legacy_types(specs[0]),
        structure.pack_sequence_as(structure.legacy_types(specs[0]), shapes),
        structure.legacy_classes(specs[0]),
    )
    variant = raw.ConcatenateDataset(
        input_dataset=first._variant_tensor,
        another_dataset=second._variant_tensor,
        **structure.attrs_of(spec),
    )
    return Node(variant, spec)


def shuffled(source: Any, buffer_size: Any, seed: Any, reshuffle: bool | None) -> Node:
    """Elements drawn from a buffer."""
    size = int64(buffer_size, "buffer_size")
    seed, seed2 = seeds(seed)
    reshuffle = True if reshuffle is None else reshuffle
    return unchanged(
        "ShuffleDataset",
        source,
        buffer_size=size,
        seed=seed,
        seed2=seed2,
        reshuffle_each_iteration=reshuffle,
    )


# ---- batches


def batched(source: Any, batch_size: Any, drop_remainder: Any) -> Node:
    """Elements stacked."""
    size, drop = int64(batch_size, "batch_size"), boolean(drop_remainder, "drop_remainder")
    count = constant_value(size) if constant_value(drop) else None
    count = None if count is None else int(count)
    spec = structure.map_structure(lambda s: s._batch(count), source.element_spec)
    variant = raw.BatchDatasetV2(
        input_dataset=source._variant_tensor,
        batch_size=size,
        drop_remainder=drop,
        **structure.attrs_of(spec),
    )
    return Node(variant, spec)


def partial_shape(shape: Any) -> Tensor:
    """A shape as a vector with -1 for what is unknown. Raises TypeError, ValueError: it is none."""
    try:
        dims = as_shape(shape).as_list()
        return convert_to_tensor([-1 if d is None else d for d in dims], dtypes.int64)
    except (TypeError, ValueError):
        tensor = convert_to_tensor(shape, preferred_dtype=dtypes.int64)
    if tensor.shape.ndims is not None and tensor.shape.ndims != 1:
        raise ValueError(
            f"Padded shape {shape} must be a 1-D tensor of tf.int64 values, but its shape was {tensor.shape}."
        )
    if tensor.dtype != dtypes.int64:
        raise TypeError(
            f"Padded shape {shape} must be a 1-D tensor of tf.int64 values, but its element type was {tensor.dtype.name}."
        )
    return tensor


def _padded_shape(shape: Any, component: TensorShape) -> Tensor:
    tensor = partial_shape(shape)
    static = TensorShape.of(constant_value_as_shape(tensor))
    a, b = static._dims, component._dims
    fits = a is None or b is None or len(a) == len(b)
    if fits and a is not None and b is not None:
        fits = all(x is None or y is None or x >= y for x, y in zip(a, b, strict=True))
    if not fits:
        raise ValueError(
            f"The padded shape {static} is not compatible with the corresponding input component shape {component}."
        )
    return tensor


def _padding_value(value: Any, dtype: dtypes.DType) -> Tensor:
    tensor = convert_to_tensor(value, name="padding_value")
    if not tensor.shape.is_compatible_with(TensorShape([])):
        raise ValueError(f"Padding value should be a scalar, but is not: {tensor}")
    if tensor.dtype != dtype:
        raise TypeError(f"Padding value tensor ({tensor}) does not match output type: {dtype!r}")
    return tensor


def _zero(dtype: dtypes.DType) -> Any:
    if dtype.base_dtype == dtypes.string:
        return ""
    if dtype.base_dtype == dtypes.variant:
        raise TypeError(
            "Unable to create padding for field of type 'variant' because t.base_type == dtypes.variant == "
            f"{dtype.base_dtype}."
        )
    return np.zeros((), dtype.as_numpy_dtype)


def padded(
    source: Any, batch_size: Any, padded_shapes: Any, padding_values: Any, drop_remainder: Any
) -> Node:
    """Elements padded to one shape and stacked. Raises TypeError: sparse tensors, other types; ValueError: shapes."""
    spec = source.element_spec
    if any(isinstance(s, SparseTensorSpec) for s in structure.flatten(spec)):
        raise TypeError("Batching of padded sparse tensors is not currently supported")
    size = int64(batch_size, "batch_size")
    types, shapes = structure.legacy_types(spec), structure.legacy_shapes(spec)
    if padding_values is None:
        padding_values = structure.map_structure(_zero, types)
    wanted = structure.flatten_up_to(shapes, padded_shapes)
    vectors = [_padded_shape(w, s) for w, s in zip(wanted, structure.flatten(shapes), strict=True)]
    values = [
        _padding_value(v, t)
        for v, t in zip(
            structure.flatten_up_to(shapes, padding_values), structure.flatten(types), strict=True
        )
    ]
    drop = boolean(drop_remainder, "drop_remainder")
    known = constant_value(drop)
    count = constant_value(size) if known is not None and known else None
    batch = TensorShape([None if count is None else int(count)])
    output_shapes = [batch.concatenate(TensorShape.of(constant_value_as_shape(v))) for v in vectors]
    spec = structure.from_legacy(
        types,
        structure.pack_sequence_as(types, output_shapes),
        structure.legacy_classes(spec),
    )
    arguments: dict[str, Any] = {
        "input_dataset": source._variant_tensor,
        "batch_size": size,
        "padded_shapes": vectors,
        "padding_values": values,
        "output_shapes": output_shapes,
    }
    return Node(raw.PaddedBatchDatasetV2(drop_remainder=drop, **arguments), spec)


def unbatched(source: Any) -> Node:
    """The rows of elements. Raises ValueError: scalars, or components of different lengths."""
    spec = source.element_spec
    known = TensorShape([None])
    for shape in structure.flat_shapes(spec):
        if shape.ndims == 0:
            raise ValueError("Cannot unbatch an input with scalar components.")
        if shape.ndims is not None:
            try:
                known = known.merge_with(shape[:1])
            except ValueError:
                raise ValueError(
                    "Cannot unbatch an input whose components have different batch sizes."
                ) from None
    spec = structure.map_structure(lambda s: s._unbatch(), spec)
    variant = raw.UnbatchDataset(input_dataset=source._variant_tensor, **structure.attrs_of(spec))
    return Node(variant, spec)


# ---- functions


def mapped(source: Any, function: Any, calls: Any, keeps_count: bool) -> Node:
    """A function of each element; `calls` at a time, or one after the other where that is None."""
    made = StructuredFunction(function, "Dataset.map()", source.element_spec)
    arguments = {
        "input_dataset": source._variant_tensor,
        "other_arguments": made.captured,
        "f": made.ref,
        "preserve_cardinality": keeps_count,
        **structure.attrs_of(made.output_spec),
    }
    if calls is None:
        variant = raw.MapDataset(**arguments)
    else:
        count = convert_to_tensor(calls, dtypes.int32, "num_parallel_calls")
        variant = raw.ParallelMapDataset(num_parallel_calls=count, **arguments)
    return Node(variant, made.output_spec, (made,))


def filtered(source: Any, predicate: Any, op_type: str, name: str) -> Node:
    """The elements that a function says yes to. Raises ValueError: it returns no scalar bool."""
    spec = source.element_spec
    made = StructuredFunction(predicate, name, spec)
    output = made.output_spec
    if not isinstance(output, TensorSpec) or not output.is_compatible_with(
        TensorSpec([], dtypes.bool)
    ):
        raise ValueError(
            f"`predicate` return type must be convertible to a scalar boolean tensor. Was {output}."
        )
    variant = getattr(raw, op_type)(
        input_dataset=source._variant_tensor,
        other_arguments=made.captured,
        predicate=made.ref,
        **structure.attrs_of(spec),
    )
    return Node(variant, spec, (made,))


def flattened(
    source: Any, function: Any, op_type: str, name: str, spec_class: type, **arguments: Any
) -> Node:
    """The datasets that a function makes of elements. Raises TypeError: it makes something else."""
    made = StructuredFunction(function, name, source.element_spec)
    if not isinstance(made.output_spec, spec_class):
        raise TypeError(f"`map_func` must return a `Dataset` object. Got {type(made.output_spec)}")
    spec = made.output_spec._element_spec  # type: ignore[attr-defined]
    variant = getattr(raw, op_type)(
        input_dataset=source._variant_tensor,
        other_arguments=made.captured,
        f=made.ref,
        **{k: v() if callable(v) else v for k, v in arguments.items()},
        **structure.attrs_of(spec),
    )
    return Node(variant, spec, (made,))
