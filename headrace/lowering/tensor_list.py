"""The values of TensorLists: on the host a tuple of arrays, in a program a buffer with room for some elements."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from headrace.core.dtypes import DType


class HostList:
    """A list outside of programs: elements of any shape, None where nothing was written. Never changed in place.

    buffer: the same elements along a new first axis, where they lie like that in memory.
    """

    __slots__ = ("buffer", "dtype", "items")
    shape = ()  # as a tensor, a list is a scalar of type variant

    def __init__(
        self, dtype: DType, items: tuple[Any, ...], buffer: np.ndarray | None = None
    ) -> None:
        self.dtype, self.items, self.buffer = dtype, items, buffer

    @classmethod
    def of_rows(cls, dtype: DType, buffer: np.ndarray) -> HostList:
        """The list of the elements along the first axis of `buffer`."""
        return cls(
            dtype, tuple(buffer) if buffer.ndim > 1 else tuple(map(np.asarray, buffer)), buffer
        )

    def __add__(self, other: HostList) -> HostList:
        """Element by element; an element that one of the lists lacks counts as zero (lists of gradients)."""
        longer, shorter = (self, other) if len(self.items) >= len(other.items) else (other, self)
        rest = (*shorter.items, *[None] * (len(longer.items) - len(shorter.items)))
        return HostList(
            self.dtype,
            tuple(
                b if a is None else a if b is None else a + b for a, b in zip(longer.items, rest)
            ),
        )

    def zeros_like(self) -> HostList:
        """A list of as many elements, all zero."""
        return HostList(
            self.dtype,
            tuple(
                None
                if i is None
                else i.zeros_like()
                if isinstance(i, HostList)
                else np.zeros_like(i)
                for i in self.items
            ),
        )

    def replace(self, index: int, item: Any) -> HostList:
        """The list with another element at `index`."""
        return HostList(self.dtype, (*self.items[:index], item, *self.items[index + 1 :]))


@jax.tree_util.register_pytree_node_class
class DeviceList:
    """A list inside a program.

    buffer: the elements along a new first axis (elements that are lists themselves: a DeviceList with that axis on its
    buffers), None while nothing was written. capacity: how many elements have room. size: how many there are,
    a traced int32;
    None where the list is full.
    """

    __slots__ = ("_buffer", "capacity", "dtype", "is_zero", "pending", "size")
    shape = ()

    def __init__(
        self, dtype: DType, buffer: Any, capacity: int, size: Any = None, is_zero: bool = False
    ) -> None:
        self.dtype, self._buffer, self.capacity, self.size = dtype, buffer, capacity, size
        # A list of zeros in which one element was set is mostly added to another one (the gradient of a read
        # in a loop):
        # until its buffer is asked for, only that element is kept.
        self.is_zero = is_zero
        self.pending: tuple[Any, Any] | None = None

    @property
    def buffer(self) -> Any:
        """The elements along a new first axis, None while nothing was written."""
        if self.pending is not None:
            index, item = self.pending
            self._buffer, self.pending = self._written(index, item), None
        return self._buffer

    def __add__(self, other: DeviceList) -> DeviceList:
        """Element by element; what was never written counts as zero (lists of gradients)."""
        if self.pending is not None and other.pending is None:
            return other + self
        if other.pending is not None:
            index, item = other.pending
            if self.buffer is None:
                return self.set(index, item)
            added = jax.tree.map(
                lambda old, v: old.at[index].add(v.astype(old.dtype)), self.buffer, item
            )
            return DeviceList(self.dtype, added, self.capacity, self.size)
        if other.buffer is None:
            return self
        if self.buffer is None:
            return other
        return DeviceList(
            self.dtype,
            jax.tree.map(operator.add, self.buffer, other.buffer),
            self.capacity,
            self.size,
        )

    def zeros_like(self) -> DeviceList:
        """A list of as many elements, all zero."""
        buffer = None if self.buffer is None else jax.tree.map(jnp.zeros_like, self.buffer)
        return DeviceList(self.dtype, buffer, self.capacity, self.size, is_zero=True)

    def tree_flatten(self) -> tuple[tuple[Any, Any], tuple[Any, int]]:
        """For JAX: what is traced, and what is not."""
        return (self.buffer, self.size), (self.dtype, self.capacity)

    @classmethod
    def tree_unflatten(cls, fixed: tuple[Any, int], traced: tuple[Any, Any]) -> DeviceList:
        """The inverse of `tree_flatten`."""
        return cls(fixed[0], traced[0], fixed[1], traced[1])

    def length(self) -> Any:
        """The number of elements: NumPy where it is known."""
        return np.int32(self.capacity) if self.size is None else self.size

    def push(self, item: Any) -> DeviceList:
        """The list with one element more."""
        if self.size is None:
            new = jax.tree.map(lambda v: jnp.asarray(v)[None], item)
            if self.buffer is not None and self.capacity:
                new = jax.tree.map(lambda old, v: jnp.concatenate([old, v]), self.buffer, new)
            elif self.capacity:
                room = jax.tree.map(
                    lambda v: jnp.zeros((self.capacity, *v.shape[1:]), v.dtype), new
                )
                new = jax.tree.map(lambda old, v: jnp.concatenate([old, v]), room, new)
            return DeviceList(self.dtype, new, self.capacity + 1)
        buffer = jax.tree.map(
            lambda old, v: _with_element(old, v, self.size),
            self.buffer,
            item,
        )
        return DeviceList(self.dtype, buffer, self.capacity, self.size + 1)

    def pop(self) -> tuple[DeviceList, Any]:
        """The list with its last element taken away, and that element."""
        if self.size is None:
            last = jax.tree.map(lambda v: v[self.capacity - 1], self.buffer)
            rest = jax.tree.map(lambda v: v[: self.capacity - 1], self.buffer)
            return DeviceList(self.dtype, rest, self.capacity - 1), last
        size = self.size - 1
        return DeviceList(self.dtype, self.buffer, self.capacity, size), self._at(size)

    def _at(self, index: Any) -> Any:
        if not self.capacity:
            # Traced, but never run: the body of a loop that makes no iteration.
            return jax.tree.map(lambda v: jnp.zeros(v.shape[1:], v.dtype), self.buffer)
        return jax.tree.map(
            lambda v: jax.lax.dynamic_index_in_dim(
                v, index, 0, keepdims=False, allow_negative_indices=False
            ),
            self.buffer,
        )

    def get(self, index: Any, absent: Any = None) -> Any:
        """Element `index`; `absent` where nothing was written to the list."""
        if self.buffer is None:
            return absent
        return self._at(index)

    def takes(self, item: Any) -> bool:
        """Whether `item` has the shape of the elements that are there."""
        if self.pending is not None:
            known = jax.tree.map(jnp.shape, self.pending[1])
        elif self._buffer is not None:
            known = jax.tree.map(lambda old: jnp.shape(old)[1:], self._buffer)
        else:
            return True
        return known == jax.tree.map(jnp.shape, item)

    def set(self, index: Any, item: Any) -> DeviceList:
        """The list with another element at `index`."""
        if self.is_zero and self.pending is None:
            new = DeviceList(self.dtype, self._buffer, self.capacity, self.size)
            new.pending = (index, jax.tree.map(jnp.asarray, item))
            return new
        self.buffer  # noqa: B018  (what is pending is written first)
        return DeviceList(self.dtype, self._written(index, item), self.capacity, self.size)

    def _written(self, index: Any, item: Any) -> Any:
        buffer = self._buffer
        if buffer is None:
            buffer = jax.tree.map(
                lambda v: jnp.zeros((self.capacity, *jnp.shape(v)), jnp.asarray(v).dtype), item
            )
        if not self.capacity:
            return buffer
        return jax.tree.map(
            lambda old, v: _with_element(old, v, index),
            buffer,
            item,
        )

    def growing(self, capacity: int) -> DeviceList:
        """The same list with room for `capacity` elements and a size that is traced."""
        size = jnp.int32(self.capacity) if self.size is None else self.size
        extra = capacity - self.capacity
        buffer = self.buffer
        if buffer is not None and extra > 0:
            buffer = jax.tree.map(
                lambda v: jnp.concatenate([v, jnp.zeros((extra, *v.shape[1:]), v.dtype)]), buffer
            )
        return DeviceList(self.dtype, buffer, max(capacity, self.capacity), size)

    def with_room_of(self, other: DeviceList) -> DeviceList:
        """The same list with the room and the kind of size of `other` (see `common_room`)."""
        new = self
        if other.size is not None:
            new = new.growing(other.capacity)
        buffer = new.buffer
        if buffer is None and other.buffer is not None:
            buffer = jax.tree.map(lambda v: jnp.zeros(v.shape, v.dtype), other.buffer)
        return DeviceList(other.dtype, buffer, other.capacity, new.size)

    def full(self, size: int) -> DeviceList:
        """The first `size` elements, as a list whose size is known."""
        buffer = None if self.buffer is None else jax.tree.map(lambda v: v[:size], self.buffer)
        return DeviceList(self.dtype, buffer, size)


def _with_element(buffer: Any, item: Any, index: Any) -> Any:
    return jax.lax.dynamic_update_index_in_dim(
        buffer, jnp.asarray(item, buffer.dtype), index, 0, allow_negative_indices=False
    )


def common_room(lists: Sequence[DeviceList]) -> DeviceList:
    """An abstract list with room for each of `lists`, the results of the branches of a conditional."""
    capacity = max(lst.capacity for lst in lists)
    sized = any(lst.size is not None or lst.capacity != capacity for lst in lists)
    dtype = next((lst.dtype for lst in lists if lst.dtype is not None), lists[0].dtype)
    buffer = next((lst.buffer for lst in lists if lst.buffer is not None), None)
    if buffer is not None:
        buffer = jax.tree.map(
            lambda v: jax.ShapeDtypeStruct((capacity, *v.shape[1:]), v.dtype), buffer
        )
    return DeviceList(dtype, buffer, capacity, np.int32(0) if sized else None)


def to_host(value: DeviceList) -> HostList:
    """The list outside of programs."""
    size = int(value.length())
    if value.buffer is None:
        return HostList(value.dtype, (None,) * size)
    buffer = jax.tree.map(np.asarray, value.buffer)
    items = []
    for i in range(size):
        item = jax.tree.map(lambda v, i=i: v[i], buffer)
        items.append(to_host(item) if isinstance(item, DeviceList) else item)
    return HostList(value.dtype, tuple(items))


def to_device(value: HostList) -> DeviceList | None:
    """The list for a program; None where its elements differ in shape."""
    present = [i for i in value.items if i is not None]
    if not present:
        return DeviceList(value.dtype, None, len(value.items))
    if isinstance(present[0], HostList):
        inner = [to_device(i) if i is not None else None for i in value.items]
        if any(i is None for i in inner):
            return None
        shapes = {jax.tree.structure(i) for i in inner}
        if len(shapes) != 1:
            return None
        return DeviceList(value.dtype, jax.tree.map(lambda *v: np.stack(v), *inner), len(inner))
    if len({np.shape(i) for i in present}) != 1:
        return None
    zero = np.zeros_like(np.asarray(present[0]))
    return DeviceList(
        value.dtype,
        np.stack([zero if i is None else np.asarray(i) for i in value.items]),
        len(value.items),
    )


# A loop whose number of iterations nothing tells before it runs starts with this much room; it doubles when it
# is needed.
_FIRST_ROOM = 64


def guessed_room(op: Any) -> int:
    """For how many iterations of the loop `op` its lists get room."""
    return op._graph.__dict__.setdefault("_room_of_loops", {}).get(op, _FIRST_ROOM)


def guessed_growth(op: Any) -> int:
    """How many elements `op`, which makes a list longer by what only the program knows, gets room for."""
    return guessed_room(op) // _FIRST_ROOM


def double_room(op: Any) -> None:
    """Gives the lists of `op`, a loop as a rule, twice the room in the programs that are traced from now on."""
    rooms = op._graph.__dict__.setdefault("_room_of_loops", {})
    rooms[op] = 2 * rooms.get(op, _FIRST_ROOM)
