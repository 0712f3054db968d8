"""Lists of tensors as values: what a loop collects, and what TensorArrays are made of. Their elements, one by one."""

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

SHAPED = "element_dtype: type, shape_type: {int32, int64}"
"""The attrs of an op that is told the shape of the elements."""


def known_sizes(element_shape) -> tuple[int, ...] | None:
    """An element shape given as a tensor, None unless every size is known."""
    value = np.asarray(element_shape)
    if value.ndim == 0 or (value < 0).any():
        return None
    return tuple(int(v) for v in value)


def handle_shape(op, *inputs):
    """The static shape of a list: a scalar."""
    return ()


def element_dims(op, index):
    """What the input `index` of an op, an element shape, says while the graph is built."""
    return constant_value_as_shape(op.inputs[index])


def zeros_of_element(op, element_shape, others=()):
    """An element that was never written: zeros, of the shape asked for or else that of `others` in the list.

    Raises InvalidArgumentError: neither is known.
    """
    sizes = known_sizes(element_shape)
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


def checked_index(op, lst, index, array="Tried to read from index {} but array size is: {}"):
    """`index`, checked. array: what a user of TensorArray is told besides, as TensorFlow does."""
    index, count = int(index), len(lst.items)
    if not 0 <= index < count:
        raise op.invalid(
            f"Trying to access element {index} in a list with {count} elements. "
            f"({array.format(index, count)})"
        )
    return index


NOT_RESIZEABLE = "Tried to write to index {} but array is not resizeable and size is: {}"
"""What `checked_index` tells the user of a TensorArray that is written."""


# ---- EmptyTensorList, TensorListReserve

empty = define(
    "EmptyTensorList",
    "element_shape: shape_type, max_num_elements: int32 -> handle: variant",
    SHAPED,
)
empty.shape(handle_shape)


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
    SHAPED,
)
reserve.shape(handle_shape)


@reserve.lower
def _reserve_lower(op, element_shape, num_elements):
    if not isinstance(num_elements, (np.ndarray, np.generic)):
        raise NotCompilable(op, "the number of its elements is only known when the program runs")
    sizes = (
        known_sizes(element_shape) if isinstance(element_shape, (np.ndarray, np.generic)) else None
    )
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
push_back.shape(handle_shape)


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
    return [(), element_dims(op, 1)]


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
        last = zeros_of_element(op, element_shape, lst.items)
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
    return element_dims(op, 2)


@get_item.lower
def _get_item_lower(op, lst, index, element_shape):
    if lst.buffer is None:
        return jnp.asarray(zeros_of_element(op, element_shape))
    return lst.get(index)


@get_item.host
def _get_item_host(op, lst, index, element_shape):
    item = lst.items[checked_index(op, lst, index)]
    return zeros_of_element(op, element_shape, lst.items) if item is None else item


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
set_item.shape(handle_shape)


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
    return lst.replace(checked_index(op, lst, index, NOT_RESIZEABLE), item)


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


# ---- TensorListResize

resize = define(
    "TensorListResize",
    "input_handle: variant, size: int32 -> output_handle: variant",
    effects=Effect.STATEFUL,
)
resize.shape(handle_shape)


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
