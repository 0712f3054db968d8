"""Lists of tensors and tensors of lists: a list stacked, gathered or joined to one tensor, and a tensor taken apart."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np

from headrace.graph import raw, shapes
from headrace.graph.op_def import define
from headrace.lowering.not_compilable import NotCompilable
from headrace.lowering.tensor_list import DeviceList, HostList
from headrace.ops.tensor_list import (
    NOT_RESIZEABLE,
    SHAPED,
    checked_index,
    element_dims,
    handle_shape,
    known_sizes,
    zeros_of_element,
)

# ---- TensorListStack, TensorListFromTensor

stack = define(
    "TensorListStack",
    "input_handle: variant, element_shape: int32 -> tensor: element_dtype",
    "element_dtype: type, num_elements: int = -1",
)


@stack.shape
def _stack_shape(op, lst, element_shape):
    count = op.attr("num_elements")
    dims = element_dims(op, 1)
    return None if dims is None else (None if count < 0 else count, *dims)


@stack.lower
def _stack_lower(op, lst, element_shape):
    if lst.size is not None:
        raise NotCompilable(op, "the length of the list is only known when the program runs")
    if lst.buffer is None:
        item = zeros_of_element(op, element_shape)
        return jnp.zeros((lst.capacity, *item.shape), item.dtype)
    return lst.buffer


@stack.host
def _stack_host(op, lst, element_shape):
    if not lst.items:
        sizes = known_sizes(element_shape)
        if sizes is None:
            raise op.invalid(
                f"Tried to stack list which only contains uninitialized elements and has a non-fully-defined element "
                f"shape: {np.asarray(element_shape).tolist()} (TensorArray has size zero, but element shape "
                f"{'<unknown>' if not np.ndim(element_shape) else list(element_shape)} is not fully defined)"
            )
        return np.zeros((0, *sizes), op.attr("element_dtype").np_dtype)
    if lst.buffer is not None:
        return lst.buffer.copy()
    items = [
        zeros_of_element(op, element_shape, lst.items) if i is None else np.asarray(i)
        for i in lst.items
    ]
    if len({i.shape for i in items}) != 1:
        raise op.invalid(
            f"Tried to stack elements of a list with different shapes: {[list(i.shape) for i in items[:3]]}."
        )
    return np.stack(items)


@stack.gradient
def _stack_gradient(op, dy):
    return raw.TensorListFromTensor(dy, op.inputs[1]), None


from_tensor = define(
    "TensorListFromTensor",
    "tensor: element_dtype, element_shape: shape_type -> output_handle: variant",
    SHAPED,
)


@from_tensor.shape
def _from_tensor_shape(op, tensor, element_shape):
    shapes.at_least_rank(op, tensor, 1, "tensor")
    return ()


@from_tensor.lower
def _from_tensor_lower(op, tensor, element_shape):
    return DeviceList(op.attr("element_dtype"), jnp.asarray(tensor), tensor.shape[0])


@from_tensor.host
def _from_tensor_host(op, tensor, element_shape):
    return HostList.of_rows(op.attr("element_dtype"), np.asarray(tensor))


@from_tensor.gradient
def _from_tensor_gradient(op, dlist):
    tensor = op.inputs[0]
    dims = tensor._dims
    count = dims[0] if dims else None
    rest = raw.StridedSlice(raw.Shape(tensor), [1], [0], [1], end_mask=1)
    grows = op._attrs.get("_grow")
    grad = raw.TensorListStack(
        dlist,
        rest,
        element_dtype=op.attr("element_dtype"),
        num_elements=-1 if count is None or grows else count,
    )
    return (
        _without_added(grad, tensor) if grows else grad,
        None,
    )


# ---- TensorListGather, TensorListScatterV2, TensorListScatterIntoExistingList

gather = define(
    "TensorListGather",
    "input_handle: variant, indices: int32, element_shape: int32 -> values: element_dtype",
    "element_dtype: type",
)


@gather.shape
def _gather_shape(op, lst, indices, element_shape):
    dims = element_dims(op, 2)
    return None if dims is None or indices is None else (*indices, *dims)


@gather.lower
def _gather_lower(op, lst, indices, element_shape):
    if lst.buffer is None:
        item = zeros_of_element(op, element_shape)
        return jnp.zeros((indices.shape[0], *item.shape), item.dtype)
    return jnp.take(lst.buffer, indices, axis=0, mode="clip")


@gather.host
def _gather_host(op, lst, indices, element_shape):
    items = [lst.items[checked_index(op, lst, i)] for i in indices]
    items = [
        zeros_of_element(op, element_shape, lst.items) if i is None else np.asarray(i)
        for i in items
    ]
    if not items:
        return np.zeros((0, *(known_sizes(element_shape) or ())), op.attr("element_dtype").np_dtype)
    if len({i.shape for i in items}) != 1:
        raise op.invalid(f"elements have different shapes: {[list(i.shape) for i in items[:3]]}.")
    return np.stack(items)


@gather.gradient
def _gather_gradient(op, dy):
    """TF differs: an element that was taken twice gets both gradients (test_tensor_list)."""
    lst, indices, element_shape = op.inputs
    total = raw.UnsortedSegmentSum(dy, indices, raw.TensorListLength(lst))
    return raw.TensorListFromTensor(total, element_shape), None, None


# As many elements as the highest index asks for.
_FROM_INDICES = np.int32(-1)
_SCATTER = "tensor: element_dtype, indices: int32, element_shape: shape_type"


def _scatter_host(op, tensor, indices, element_shape, num_elements=_FROM_INDICES):
    count = int(num_elements)
    if count < 0:
        count = int(np.max(indices)) + 1 if len(indices) else 0
    items = [None] * count
    for i, item in zip(indices, tensor, strict=True):
        if not 0 <= i < count:
            raise op.invalid(f"Trying to scatter to index {int(i)} in a list of {count} elements.")
        items[int(i)] = np.asarray(item)
    return HostList(op.attr("element_dtype"), tuple(items))


def _scatter_lower(op, tensor, indices, element_shape, num_elements=_FROM_INDICES):
    if not isinstance(num_elements, (np.ndarray, np.generic)):
        raise NotCompilable(op, "the number of its elements is only known when the program runs")
    count = int(num_elements)
    if count < 0:
        if not isinstance(indices, np.ndarray):
            raise NotCompilable(
                op, "the number of its elements is only known when the program runs"
            )
        count = int(np.max(indices)) + 1 if len(indices) else 0
    tensor = jnp.asarray(tensor)
    buffer = (
        jnp.zeros((count, *tensor.shape[1:]), tensor.dtype)
        .at[jnp.asarray(indices)]
        .set(tensor, mode="drop")
    )
    return DeviceList(op.attr("element_dtype"), buffer, count)


for _name, _arguments in (
    ("TensorListScatter", _SCATTER),
    ("TensorListScatterV2", f"{_SCATTER}, num_elements: int32"),
):
    _definition = define(_name, f"{_arguments} -> output_handle: variant", SHAPED)
    _definition.shape(handle_shape)
    _definition.lower(_scatter_lower)
    _definition.host(_scatter_host)

    @_definition.gradient
    def _scatter_gradient(op, dlist):
        _, indices, element_shape = op.inputs[:3]
        grad = raw.TensorListGather(
            dlist, indices, _int32(element_shape), element_dtype=op.attr("element_dtype")
        )
        return [grad] + [None] * (len(op.inputs) - 1)


def _int32(sizes):
    return sizes if sizes.dtype.name == "int32" else raw.Cast(sizes, DstT="int32")


scatter_into = define(
    "TensorListScatterIntoExistingList",
    "input_handle: variant, tensor: element_dtype, indices: int32 -> output_handle: variant",
    "element_dtype: type",
)
scatter_into.shape(handle_shape)


@scatter_into.lower
def _scatter_into_lower(op, lst, tensor, indices):
    tensor = jnp.asarray(tensor)
    buffer = lst.buffer
    if buffer is None:
        buffer = jnp.zeros((lst.capacity, *tensor.shape[1:]), tensor.dtype)
    return DeviceList(
        lst.dtype, buffer.at[jnp.asarray(indices)].set(tensor, mode="drop"), lst.capacity, lst.size
    )


@scatter_into.host
def _scatter_into_host(op, lst, tensor, indices):
    for i, item in zip(indices, tensor, strict=True):
        lst = lst.replace(checked_index(op, lst, i, NOT_RESIZEABLE), np.asarray(item))
    return lst


@scatter_into.gradient
def _scatter_into_gradient(op, dlist):
    _, tensor, indices = op.inputs
    kind = op.attr("element_dtype")
    rest = raw.StridedSlice(raw.Shape(tensor), [1], [0], [1], end_mask=1)
    grad = raw.TensorListGather(dlist, indices, rest, element_dtype=kind)
    return raw.TensorListScatterIntoExistingList(dlist, raw.ZerosLike(tensor), indices), grad, None


# ---- TensorListConcatV2, TensorListSplit

concat = define(
    "TensorListConcatV2",
    "input_handle: variant, element_shape: shape_type, leading_dims: int64 -> tensor: element_dtype, lengths: int64",
    SHAPED,
)


@concat.shape
def _concat_shape(op, lst, element_shape, leading_dims):
    dims = element_dims(op, 1)
    return [None if not dims else (None, *dims[1:]), (None,)]


@concat.lower
def _concat_lower(op, lst, element_shape, leading_dims):
    if lst.size is not None or lst.buffer is None:
        raise NotCompilable(op, "the length of the list is only known when the program runs")
    shape = lst.buffer.shape
    return (
        lst.buffer.reshape((shape[0] * shape[1], *shape[2:])),
        np.full((shape[0],), shape[1], np.int64),
    )


@concat.host
def _concat_host(op, lst, element_shape, leading_dims):
    items = [
        zeros_of_element(op, element_shape, lst.items) if i is None else np.asarray(i)
        for i in lst.items
    ]
    if not items:
        sizes = [max(0, int(s)) for s in np.atleast_1d(element_shape)]
        return np.zeros((0, *sizes[1:]), op.attr("element_dtype").np_dtype), np.zeros(
            (0,), np.int64
        )
    if any(i.ndim == 0 for i in items):
        raise op.invalid("Concat saw a scalar shape at index 0 but requires at least vectors.")
    if len({i.shape[1:] for i in items}) != 1:
        raise op.invalid(
            f"TensorArray has inconsistent shapes. Index 0 has (excepting dimension 0) shape: "
            f"{list(items[0].shape[1:])} but "
            f"another has {next(list(i.shape[1:]) for i in items if i.shape[1:] != items[0].shape[1:])}"
        )
    return np.concatenate(items), np.array([len(i) for i in items], np.int64)


@concat.gradient
def _concat_gradient(op, dy, dlengths):
    lengths = op.outputs[1]
    return raw.TensorListSplit(dy, op.inputs[1], lengths), None, None


split = define(
    "TensorListSplit",
    "tensor: element_dtype, element_shape: shape_type, lengths: int64 -> output_handle: variant",
    SHAPED,
)
split.shape(handle_shape)


@split.lower
def _split_lower(op, tensor, element_shape, lengths):
    if not isinstance(lengths, np.ndarray) or len(set(lengths.tolist())) > 1:
        raise NotCompilable(op, "its parts differ in size, or are only known when the program runs")
    tensor = jnp.asarray(tensor)
    size = int(lengths[0]) if len(lengths) else 0
    return DeviceList(
        op.attr("element_dtype"),
        tensor.reshape((len(lengths), size, *tensor.shape[1:])),
        len(lengths),
    )


@split.host
def _split_host(op, tensor, element_shape, lengths):
    if not np.ndim(lengths):
        raise op.invalid("Expected lengths to be a vector, received shape: []")
    if not np.ndim(tensor):
        raise op.invalid("Expected value to be at least a vector, but received shape: []")
    if int(np.sum(lengths)) != len(tensor):
        raise op.invalid(
            f"Expected sum of lengths to be equal to values.shape[0], but sum of lengths is "
            f"{int(np.sum(lengths))} and value's "
            f"shape is: {list(tensor.shape)}"
        )
    ends = np.cumsum(lengths)
    items = tuple(np.asarray(tensor[e - n : e]) for e, n in zip(ends, lengths, strict=True))
    return HostList(op.attr("element_dtype"), items)


@split.gradient
def _split_gradient(op, dlist):
    _, element_shape, lengths = op.inputs
    tensor, _ = raw.TensorListConcatV2(
        dlist, element_shape, lengths, element_dtype=op.attr("element_dtype")
    )
    return _without_added(tensor, op.inputs[0]) if op._attrs.get("_grow") else tensor, None, None


def _without_added(grad, tensor):
    """The gradient of `tensor` alone, where elements were written behind those that it made."""
    end = raw.StridedSlice(raw.Shape(tensor), [0], [1], [1])
    return raw.StridedSlice(grad, [0], end, [1])
