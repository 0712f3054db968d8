"""Lists of tensors as values: what a loop collects, and what TensorArrays are made of."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np

from headrace.core import errors
from headrace.graph import raw, shapes
from headrace.graph.constant_value import constant_value_as_shape
from headrace.graph.op_def import Effect, define
from headrace.lowering import checks
from headrace.lowering.not_compilable import NotCompilable
from headrace.lowering.tensor_list import DeviceList, HostList, guessed_growth

_SHAPED = "element_dtype: type, shape_type: {int32, int64}"


def _sizes(element_shape) -> tuple[int, ...] | None:
    """An element shape given as a tensor, None unless every size is known."""
    value = np.asarray(element_shape)
    if value.ndim == 0 or (value < 0).any():
        return None
    return tuple(int(v) for v in value)


def _handle_shape(op, *inputs):
    return ()


def _element_dims(op, index):
    """What the input `index` of an op, an element shape, says while the graph is built."""
    return constant_value_as_shape(op.inputs[index])


def _zeros(op, element_shape, others=()):
    sizes = _sizes(element_shape)
    if sizes is None:
        known = [np.shape(o) for o in others if o is not None]
        if not known:
            raise errors.InvalidArgumentError(
                None,
                op,
                f"{op.type} op {op.name!r}: Trying to read an uninitialized element, but its shape "
                f"{np.asarray(element_shape).tolist()} is not fully defined.",
            )
        sizes = known[0]
    return np.zeros(sizes, op.attr("element_dtype").np_dtype)


def _index(op, lst, index, array="Tried to read from index {} but array size is: {}"):
    """`index`, checked. array: what a user of TensorArray is told besides, as TensorFlow does."""
    index, count = int(index), len(lst.items)
    if not 0 <= index < count:
        raise op.invalid(
            f"Trying to access element {index} in a list with {count} elements. "
            f"({array.format(index, count)})"
        )
    return index


_WRITE = "Tried to write to index {} but array is not resizeable and size is: {}"


# ---- EmptyTensorList, TensorListReserve

empty = define(
    "EmptyTensorList",
    "element_shape: shape_type, max_num_elements: int32 -> handle: variant",
    _SHAPED,
)
empty.shape(_handle_shape)


@empty.lower
def _empty_lower(op, element_shape, max_num_elements):
    return DeviceList(op.attr("element_dtype"), None, 0)


@empty.host
def _empty_host(op, element_shape, max_num_elements):
    return HostList(op.attr("element_dtype"), ())


empty.not_differentiable()

reserve = define(
    "TensorListReserve",
    "element_shape: shape_type, num_elements: int32 -> handle: variant",
    _SHAPED,
)
reserve.shape(_handle_shape)


@reserve.lower
def _reserve_lower(op, element_shape, num_elements):
    if not isinstance(num_elements, (np.ndarray, np.generic)):
        raise NotCompilable(op, "the number of its elements is only known when the program runs")
    sizes = _sizes(element_shape) if isinstance(element_shape, (np.ndarray, np.generic)) else None
    count = int(num_elements)
    kind = op.attr("element_dtype")
    numeric = kind.is_floating or kind.is_integer or kind.is_bool or kind.is_complex
    buffer = jnp.zeros((count, *sizes), kind.np_dtype) if sizes is not None and numeric else None
    return DeviceList(kind, buffer, count, is_zero=True)


@reserve.host
def _reserve_host(op, element_shape, num_elements):
    return HostList(op.attr("element_dtype"), (None,) * int(num_elements))


reserve.not_differentiable()

# ---- TensorListPushBack, TensorListPopBack

push_back = define(
    "TensorListPushBack",
    "input_handle: variant, tensor: element_dtype -> output_handle: variant",
    "element_dtype: type",
)
push_back.shape(_handle_shape)


@push_back.lower
def _push_back_lower(op, lst, tensor):
    return lst.push(tensor)


@push_back.host
def _push_back_host(op, lst, tensor):
    return HostList(lst.dtype, (*lst.items, tensor))


@push_back.gradient
def _push_back_gradient(op, dlist):
    handle, tensor = raw.TensorListPopBack(
        dlist, raw.Shape(op.inputs[1]), element_dtype=op.attr("element_dtype")
    )
    return handle, tensor


pop_back = define(
    "TensorListPopBack",
    "input_handle: variant, element_shape: int32 -> output_handle: variant, tensor: element_dtype",
    "element_dtype: type",
)


@pop_back.shape
def _pop_back_shape(op, lst, element_shape):
    return [(), _element_dims(op, 1)]


@pop_back.lower
def _pop_back_lower(op, lst, element_shape):
    if lst.buffer is None:
        raise NotCompilable(op, "nothing was written to the list")
    return lst.pop()


@pop_back.host
def _pop_back_host(op, lst, element_shape):
    if not lst.items:
        raise op.invalid("Trying to pop from an empty list.")
    last = lst.items[-1]
    if last is None:
        last = _zeros(op, element_shape, lst.items)
    return HostList(lst.dtype, lst.items[:-1]), last


@pop_back.gradient
def _pop_back_gradient(op, dlist, dtensor):
    if dlist is None:
        dlist = raw.EmptyTensorList(
            np.int32(-1), np.int32(-1), element_dtype=op.attr("element_dtype")
        )
    if dtensor is None:
        dtensor = raw.ZerosLike(op.outputs[1])
    return raw.TensorListPushBack(dlist, dtensor), None


# ---- TensorListLength, TensorListElementShape

length = define("TensorListLength", "input_handle: variant -> length: int32")
length.shape(shapes.scalar)


@length.lower
def _length_lower(op, lst):
    return lst.length()


@length.host
def _length_host(op, lst):
    return np.int32(len(lst.items))


length.not_differentiable()

# ---- TensorListGetItem, TensorListSetItem

get_item = define(
    "TensorListGetItem",
    "input_handle: variant, index: int32, element_shape: int32 -> item: element_dtype",
    "element_dtype: type",
)


@get_item.shape
def _get_item_shape(op, lst, index, element_shape):
    return _element_dims(op, 2)


@get_item.lower
def _get_item_lower(op, lst, index, element_shape):
    if lst.buffer is None:
        return jnp.asarray(_zeros(op, element_shape))
    return lst.get(index)


@get_item.host
def _get_item_host(op, lst, index, element_shape):
    item = lst.items[_index(op, lst, index)]
    return _zeros(op, element_shape, lst.items) if item is None else item


@get_item.gradient
def _get_item_gradient(op, dy):
    lst, index, element_shape = op.inputs
    zeros = raw.TensorListReserve(
        element_shape, raw.TensorListLength(lst), element_dtype=op.attr("element_dtype")
    )
    return raw.TensorListSetItem(zeros, index, dy), None, None


set_item = define(
    "TensorListSetItem",
    "input_handle: variant, index: int32, item: element_dtype -> output_handle: variant",
    "element_dtype: type",
)
set_item.shape(_handle_shape)


@set_item.lower
def _set_item_lower(op, lst, index, item):
    if op._attrs.get("_grow") and not _within(lst, index):
        raise NotCompilable(
            op, "the list grows to a length that is only known when the program runs"
        )
    if not lst.takes(item):
        raise NotCompilable(op, "the elements of the list differ in shape")
    return lst.set(index, item)


def _within(lst, index):
    known = isinstance(index, (np.ndarray, np.generic))
    return known and lst.size is None and 0 <= int(index) < lst.capacity


@set_item.host
def _set_item_host(op, lst, index, item):
    if op._attrs.get("_grow") and int(index) >= len(lst.items):
        lst = HostList(lst.dtype, (*lst.items, *[None] * (int(index) + 1 - len(lst.items))))
    return lst.replace(_index(op, lst, index, _WRITE), item)


@set_item.gradient
def _set_item_gradient(op, dlist):
    _, index, item = op.inputs
    kind = op.attr("element_dtype")
    grad = raw.TensorListGetItem(dlist, index, raw.Shape(item), element_dtype=kind)
    if op._attrs.get("_write_once"):
        # Nothing was there before, so that nobody asks for this element's gradient again. In a loop XLA would copy the whole
        # buffer to read an element and clear it.
        return dlist, None, grad
    return raw.TensorListSetItem(dlist, index, raw.ZerosLike(item)), None, grad


# ---- TensorListStack, TensorListFromTensor

stack = define(
    "TensorListStack",
    "input_handle: variant, element_shape: int32 -> tensor: element_dtype",
    "element_dtype: type, num_elements: int = -1",
)


@stack.shape
def _stack_shape(op, lst, element_shape):
    count = op.attr("num_elements")
    dims = _element_dims(op, 1)
    return None if dims is None else (None if count < 0 else count, *dims)


@stack.lower
def _stack_lower(op, lst, element_shape):
    if lst.size is not None:
        raise NotCompilable(op, "the length of the list is only known when the program runs")
    if lst.buffer is None:
        item = _zeros(op, element_shape)
        return jnp.zeros((lst.capacity, *item.shape), item.dtype)
    return lst.buffer


@stack.host
def _stack_host(op, lst, element_shape):
    if not lst.items:
        sizes = _sizes(element_shape)
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
        _zeros(op, element_shape, lst.items) if i is None else np.asarray(i) for i in lst.items
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
    _SHAPED,
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
    dims = _element_dims(op, 2)
    return None if dims is None or indices is None else (*indices, *dims)


@gather.lower
def _gather_lower(op, lst, indices, element_shape):
    if lst.buffer is None:
        item = _zeros(op, element_shape)
        return jnp.zeros((indices.shape[0], *item.shape), item.dtype)
    return jnp.take(lst.buffer, indices, axis=0, mode="clip")


@gather.host
def _gather_host(op, lst, indices, element_shape):
    items = [lst.items[_index(op, lst, i)] for i in indices]
    items = [_zeros(op, element_shape, lst.items) if i is None else np.asarray(i) for i in items]
    if not items:
        return np.zeros((0, *(_sizes(element_shape) or ())), op.attr("element_dtype").np_dtype)
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
    _definition = define(_name, f"{_arguments} -> output_handle: variant", _SHAPED)
    _definition.shape(_handle_shape)
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
scatter_into.shape(_handle_shape)


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
        lst = lst.replace(_index(op, lst, i, _WRITE), np.asarray(item))
    return lst


@scatter_into.gradient
def _scatter_into_gradient(op, dlist):
    _, tensor, indices = op.inputs
    kind = op.attr("element_dtype")
    rest = raw.StridedSlice(raw.Shape(tensor), [1], [0], [1], end_mask=1)
    grad = raw.TensorListGather(dlist, indices, rest, element_dtype=kind)
    return raw.TensorListScatterIntoExistingList(dlist, raw.ZerosLike(tensor), indices), grad, None


# ---- TensorListResize

resize = define(
    "TensorListResize",
    "input_handle: variant, size: int32 -> output_handle: variant",
    effects=Effect.STATEFUL,
)
resize.shape(_handle_shape)


@resize.lower
def _resize_lower(op, lst, size):
    if not isinstance(size, (np.ndarray, np.generic)) or lst.size is not None:
        if not op._attrs.get("_only_grows"):
            raise NotCompilable(op, "the new length is only known when the program runs")
        if lst.size is None:
            lst = lst.growing(lst.capacity + guessed_growth(op))
        checks.need_room(op, jnp.asarray(size) > lst.capacity)
        return DeviceList(lst.dtype, lst.buffer, lst.capacity, jnp.asarray(size, jnp.int32))
    count = int(size)
    if count <= lst.capacity:
        return lst.full(count)
    return (
        lst.growing(count).full(count)
        if lst.buffer is not None
        else DeviceList(lst.dtype, None, count)
    )


@resize.host
def _resize_host(op, lst, size):
    count = int(size)
    items = lst.items[:count]
    return HostList(lst.dtype, (*items, *[None] * (count - len(items))))


@resize.gradient
def _resize_gradient(op, dlist):
    return raw.TensorListResize(dlist, raw.TensorListLength(op.inputs[0])), None


# ---- TensorListConcatV2, TensorListSplit

concat = define(
    "TensorListConcatV2",
    "input_handle: variant, element_shape: shape_type, leading_dims: int64 -> tensor: element_dtype, lengths: int64",
    _SHAPED,
)


@concat.shape
def _concat_shape(op, lst, element_shape, leading_dims):
    dims = _element_dims(op, 1)
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
        _zeros(op, element_shape, lst.items) if i is None else np.asarray(i) for i in lst.items
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
    _SHAPED,
)
split.shape(_handle_shape)


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
