"""`tf.TensorArray`: an array of tensors that a loop writes and reads, made of TensorLists."""

from __future__ import annotations

from typing import Any

import numpy as np
from tensorboard.compat.proto import attr_value_pb2

from headrace.api.export import export
from headrace.api.framework import name_scope
from headrace.core import dtypes, errors
from headrace.core.tensor_shape import TensorShape, as_shape
from headrace.graph import convert, default, raw
from headrace.graph.constant_value import constant_value
from headrace.graph.tensor import Dims, Tensor


def _shape_tensor(dims: Dims) -> np.ndarray:
    if dims is None:
        return np.array(-1, np.int32)
    return np.array([-1 if d is None else d for d in dims], np.int32)


@export("TensorArray")
class TensorArray:
    """An array of tensors of one type, for use in loops: `write` gives the next state of the array, so go on with that.

    size: the number of elements. dynamic_size: writing beyond the end makes it longer. element_shape: the shape of the
    elements as far as known; with infer_shape it follows from what is written, and all must agree.
    clear_after_read, colocate_with_first_write_call: accepted; memory is XLA's concern here.
    """

    def __init__(
        self,
        dtype: Any,
        size: Any = None,
        dynamic_size: bool | None = None,
        clear_after_read: bool | None = None,
        tensor_array_name: str | None = None,
        handle: Any = None,
        flow: Any = None,
        infer_shape: bool = True,
        element_shape: Any = None,
        colocate_with_first_write_call: bool = True,
        name: str | None = None,
    ) -> None:
        if handle is not None and tensor_array_name:
            raise ValueError("Cannot construct with both handle and tensor_array_name")
        if handle is not None and element_shape is not None:
            raise ValueError("Cannot provide both a handle and element_shape at the same time")
        if handle is not None and dynamic_size is not None:
            raise ValueError(
                "Cannot provide both a handle and dynamic_size arguments at the same time"
            )
        if handle is not None and clear_after_read is not None:
            raise ValueError(
                "Cannot provide both a handle and clear_after_read arguments at the same time"
            )
        if flow is None and handle is None and size is None:
            raise ValueError("Size must be provided if handle is not provided")
        self._dtype = dtypes.as_dtype(dtype).base_dtype
        self._dynamic_size = bool(dynamic_size)
        self._infer_shape = infer_shape
        self._dims: Dims = as_shape(element_shape)._dims if element_shape is not None else None
        self._size: int | None = None
        self._adds = False  # whether it is an array of gradients
        self._gradients: dict[Any, TensorArray] = {}  # by source, of all states of this array
        if flow is not None or handle is not None:
            self._flow: Any = flow if flow is not None else handle
            return
        with name_scope(name, "TensorArray", [size]):
            count = convert.convert_to_tensor(size, dtypes.int32, "size")
            known = constant_value(count)
            self._size = None if known is None or self._dynamic_size else int(known)
            self._flow = raw.TensorListReserve(
                _shape_tensor(self._dims), count, element_dtype=self._dtype
            )

    # ---- what it is

    @property
    def dtype(self) -> Any:
        """The type of the elements."""
        return self._dtype

    @property
    def dynamic_size(self) -> bool:
        """Whether writing beyond the end makes the array longer."""
        return self._dynamic_size

    @property
    def flow(self) -> Tensor:
        """The tensor that carries the state of the array."""
        return self._flow

    @property
    def handle(self) -> Tensor:
        """The same tensor: state and identity are one here."""
        return self._flow

    @property
    def element_shape(self) -> TensorShape:
        """What is known of the shape of the elements."""
        return TensorShape.of(self._dims)

    def _with_flow(self, flow: Tensor, dims: Any = "same", size: Any = "same") -> TensorArray:
        new = TensorArray(self._dtype, flow=flow, infer_shape=self._infer_shape)
        new._dynamic_size, new._adds = self._dynamic_size, self._adds
        new._gradients = self._gradients
        new._dims = self._dims if dims == "same" else dims
        new._size = None if self._dynamic_size else self._size if size == "same" else size
        return new

    # How control flow takes the array apart and puts it together again.

    def _composite_parts(self) -> list[Tensor]:
        return [self._flow]

    def _with_parts(self, parts: list[Tensor]) -> TensorArray:
        return self._with_flow(parts[0])

    def _learn_from(self, other: TensorArray) -> None:
        """Takes over what the body of a loop found out about the shape of the elements."""
        if self._dims is None and self._infer_shape:
            self._dims = other._dims

    def _loop_invariant(self, tensor: Tensor) -> Dims:
        return ()

    def _loop_invariants_from(self, invariant: Any) -> list[Dims]:
        return [()]

    def _merged(self, dims: Dims) -> Dims:
        """The element shape with what a written value adds to it. Raises ValueError: they contradict each other."""
        known = TensorShape.of(self._dims)
        if not known.is_compatible_with(TensorShape.of(dims)):
            raise ValueError(
                f"Inconsistent shapes: saw {TensorShape.of(dims)} but expected {known} "
                f"(and infer_shape={self._infer_shape})"
            )
        return known.merge_with(TensorShape.of(dims))._dims if self._infer_shape else self._dims

    def _noting(self, *attrs: str) -> Any:
        """A block whose nodes carry these attrs, and `_grow` where the array may become longer."""
        names = (*attrs, "_grow") if self._dynamic_size else attrs
        yes = attr_value_pb2.AttrValue(b=True)
        return default.get_default_graph()._attr_scope(dict.fromkeys(names, yes))

    # ---- elements

    def size(self, name: str | None = None) -> Tensor:
        """The number of elements, an int32 scalar."""
        if self._size is not None:
            return convert.constant_from_value(self._size, dtypes.int32, name or "size")
        return raw.TensorListLength(self._flow, name=name)

    def read(self, index: Any, name: str | None = None) -> Tensor:
        """Element `index`."""
        value = raw.TensorListGetItem(
            self._flow,
            _index(index),
            _shape_tensor(self._dims),
            element_dtype=self._dtype,
            name=name,
        )
        if self._dims is not None:
            value.set_shape(TensorShape.of(self._dims))
        return value

    def write(self, index: Any, value: Any, name: str | None = None) -> TensorArray:
        """The array with `value` as element `index`, which may be written once.

        TF differs: writing an element twice is no error, the last value counts; but gradients count both.
        Raises ValueError: it has another shape than the elements.
        """
        value = convert.convert_to_tensor(value, self._dtype, "value")
        dims = self._merged(value._dims)
        value = self._sum(index, value)
        with self._noting(*(() if self._adds else ("_write_once",))):
            flow = raw.TensorListSetItem(self._flow, _index(index), value, name=name)
        return self._with_flow(flow, dims)

    def stack(self, name: str | None = None) -> Tensor:
        """All elements along a new first axis."""
        with name_scope(name, "TensorArrayStack", [self._flow]):
            value = raw.TensorListStack(
                self._flow,
                _shape_tensor(self._dims),
                element_dtype=self._dtype,
                num_elements=-1 if self._size is None else self._size,
            )
        return value

    def gather(self, indices: Any, name: str | None = None) -> Tensor:
        """The elements `indices` (a vector of int32) along a new first axis."""
        return raw.TensorListGather(
            self._flow, indices, _shape_tensor(self._dims), element_dtype=self._dtype, name=name
        )

    def concat(self, name: str | None = None) -> Tensor:
        """The elements one after the other along their first axis."""
        dims = self._dims
        shape = dims if dims is None else (None, *dims[1:])
        value, _ = raw.TensorListConcatV2(
            self._flow,
            _shape_tensor(shape),
            np.zeros((0,), np.int64),
            element_dtype=self._dtype,
            name=name,
        )
        return value

    def unstack(self, value: Any, name: str | None = None) -> TensorArray:
        """The array whose elements are the parts of `value` along its first axis."""
        value = convert.convert_to_tensor(value, self._dtype, "value")
        rest = None if value._dims is None else value._dims[1:]
        dims = self._merged(rest)
        with name_scope(name, "TensorArrayUnstack", [value]), self._noting():
            flow = raw.TensorListFromTensor(value, _shape_tensor(dims))
        count = value._dims[0] if value._dims else None
        return self._with_flow(flow, dims, count)

    def scatter(self, indices: Any, value: Any, name: str | None = None) -> TensorArray:
        """The array with the parts of `value` along its first axis as elements `indices`."""
        value = convert.convert_to_tensor(value, self._dtype, "value")
        dims = self._merged(None if value._dims is None else value._dims[1:])
        indices = convert.convert_to_tensor(indices, dtypes.int32, "indices")
        flow = self._flow
        if self._dynamic_size:
            needed = raw.Add(raw.Max(indices, [0]), 1)
            flow = raw.TensorListResize(flow, raw.Maximum(raw.TensorListLength(flow), needed))
        flow = raw.TensorListScatterIntoExistingList(flow, value, indices, name=name)
        return self._with_flow(flow, dims)

    def split(self, value: Any, lengths: Any, name: str | None = None) -> TensorArray:
        """The array whose elements are the pieces of `value` of these lengths (a vector of int64).

        Raises tf.errors.InvalidArgumentError: another number of lengths than the array has elements.
        """
        value = convert.convert_to_tensor(value, self._dtype, "value")
        lengths = convert.convert_to_tensor(lengths, name="lengths")
        if lengths.dtype != dtypes.int64:
            lengths = raw.Cast(lengths, DstT=dtypes.int64)
        known = constant_value(lengths)
        first = (
            int(known[0])
            if known is not None and known.ndim and len(set(known.tolist())) == 1
            else None
        )
        rest = None if value._dims is None else (first, *value._dims[1:])
        dims = self._merged(rest)
        count = None if known is None or not known.ndim else len(known)
        rows = value._dims[0] if value._dims else None
        fits = known is not None and rows in (None, int(known.sum()))
        if fits and self._size is not None and count not in (None, self._size):
            raise errors.InvalidArgumentError(
                None,
                None,
                f"TensorArray's size is not equal to the size of lengths ({self._size} vs. {count}), and the TensorArray is "
                "not marked as dynamically resizeable",
            )
        with self._noting():
            flow = raw.TensorListSplit(value, _shape_tensor(dims), lengths, name=name)
        return self._with_flow(flow, dims, count)

    def identity(self) -> TensorArray:
        """The same array, as of what the control dependencies in force wait for."""
        return self._with_flow(raw.Identity(self._flow))

    def grad(self, source: Any, flow: Any = None, name: str | None = None) -> TensorArray:
        """An array for the gradients of the elements: as long as this one, at first zeros, and what is written is added.

        source: a name; the same name gives the same array. flow: the state of the array whose length counts.
        TF differs: what is written shows in the array that `write` gives, as with every array here, not in all others of
        the same `source`. `tf.gradients` through an array needs no `grad`.
        """
        found = self._gradients.get(source)
        if found is None:
            with name_scope(name, "TensorArrayGrad", [self._flow]):
                length = raw.TensorListLength(self._flow if flow is None else flow)
                zeros = raw.TensorListReserve(
                    _shape_tensor(self._dims), length, element_dtype=self._dtype
                )
            found = self._gradients[source] = self._with_flow(zeros)
            found._adds, found._gradients = True, {}
        return found

    def _sum(self, index: Any, value: Tensor) -> Tensor:
        """`value`, and in an array of gradients what element `index` was before."""
        if not self._adds:
            return value
        before = raw.TensorListGetItem(
            self._flow, _index(index), raw.Shape(value), element_dtype=self._dtype
        )
        return raw.AddV2(before, value)

    def close(self, name: str | None = None) -> Any:
        """Does nothing: the array has no resources of its own."""
        return raw.NoOp(name=name)


def _index(index: Any) -> Tensor:
    tensor = convert.convert_to_tensor(index, name="index")
    return tensor if tensor.dtype == dtypes.int32 else raw.Cast(tensor, DstT=dtypes.int32)
