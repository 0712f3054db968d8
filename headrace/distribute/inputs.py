"""Where the replicas' inputs come from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from headrace.core import device_spec
from headrace.data import structure
from headrace.data.dataset import DatasetV2
from headrace.data.dataset_v1 import make_initializable_iterator
from headrace.distribute.values import regroup
from headrace.graph import default, raw
from headrace.graph.tensor import Tensor
from headrace.graph.type_spec import TensorSpec


class CallableIterator:
    """Gives each replica the tensors that a function makes, called once for each, on the host."""

    def __init__(self, function: Callable[[], Any], devices: Sequence[str]) -> None:
        self._function, self._devices = function, tuple(devices)

    def initialize(self) -> list[Any]:
        """What to run before the first element: nothing."""
        return []

    def get_next(self, name: str | None = None) -> Any:
        """The next element: distributed values."""
        with default.get_default_graph().device(_host_of(self._devices)):
            return regroup(self._devices, [self._function() for _ in self._devices])


def _host_of(devices: Sequence[str]) -> Any:
    first = device_spec.DeviceSpec.from_string(devices[0])
    return first.replace(device_type="CPU", device_index=0)


class DatasetIterator:
    """Gives each replica elements of a dataset.

    split: an element is a batch for all replicas, of which each gets a part; else each replica gets an element.
    Raises ValueError: batches of a known size that the number of replicas does not divide, or elements that are no batches.
    """

    def __init__(self, dataset: DatasetV2, devices: Sequence[str], split: bool) -> None:
        self._devices = tuple(devices)
        self._split = split and len(self._devices) > 1
        with default.get_default_graph().device(_host_of(self._devices)):
            if self._split:
                dataset = _in_parts(dataset, len(self._devices)).prefetch(1)
            self._iterator = make_initializable_iterator(dataset)

    @property
    def initializer(self) -> Any:
        """The operation that begins with the first element."""
        return self._iterator.initializer

    def initialize(self) -> list[Any]:
        """What to run before the first element."""
        return [self._iterator.initializer]

    def get_next(self, name: str | None = None) -> Any:
        """The next element: distributed values. A run raises OutOfRangeError where not every replica gets one."""
        graph = default.get_default_graph()
        with graph.device(_host_of(self._devices)):
            if self._split:
                return regroup(self._devices, self._iterator.get_next(name))
            found: list[Any] = []
            before: list[Any] = []
            for _ in self._devices:  # the order of the elements is that of the replicas
                with graph.control_dependencies(before):
                    found.append(self._iterator.get_next(name))
                tensors = structure.to_tensors(self._iterator.element_spec, found[-1])
                before = [tensors[0].op]
            return regroup(self._devices, found)

    @property
    def output_classes(self) -> Any:
        """The classes of the components of a replica's element."""
        return self._of_replica(structure.legacy_classes)

    @property
    def output_shapes(self) -> Any:
        """The shapes of the components of a replica's element."""
        return self._of_replica(structure.legacy_shapes)

    @property
    def output_types(self) -> Any:
        """The types of the components of a replica's element."""
        return self._of_replica(structure.legacy_types)

    def _of_replica(self, of: Callable[[Any], Any]) -> Any:
        spec = self._iterator.element_spec
        return of(spec[0] if self._split else spec)


def _in_parts(dataset: DatasetV2, count: int) -> DatasetV2:
    """Each batch as a tuple of `count` batches, as even as can be; the last ones of a small batch may be empty."""
    spec = dataset.element_spec
    for component in structure.flatten(spec):
        if not isinstance(component, TensorSpec) or component.shape.ndims == 0:
            raise ValueError(f"The elements of the dataset are no batches of dense tensors: {spec}")
        size = component.shape[:1].as_list()[0] if component.shape.ndims else None
        if size is not None and size % count:
            raise ValueError(f"A batch of {size} cannot be shared by {count} replicas: {spec}")

    def parts(*element: Any) -> tuple[Any, ...]:
        whole = element if type(spec) is tuple else element[0]
        flat = structure.flatten(whole)
        rows = raw.StridedSlice(
            input=raw.Shape(input=flat[0]), begin=[0], end=[1], strides=[1], shrink_axis_mask=1
        )
        share = raw.FloorDiv(x=raw.AddV2(x=rows, y=count - 1), y=count)
        bounds = [raw.Minimum(x=raw.Mul(x=share, y=i), y=rows) for i in range(count + 1)]
        return tuple(
            structure.pack_sequence_as(spec, [_rows(t, *bounds[i : i + 2], count) for t in flat])
            for i in range(count)
        )

    return dataset.map(parts)


def _rows(tensor: Tensor, first: Tensor, last: Tensor, count: int) -> Tensor:
    part = raw.StridedSlice(
        input=tensor, begin=raw.Pack(values=[first]), end=raw.Pack(values=[last]), strides=[1]
    )
    size = tensor.shape[:1].as_list()[0] if tensor.shape.ndims else None
    if tensor.shape.ndims is not None:
        rest = tensor.shape[1:].as_list()
        part.set_shape([None if size is None else size // count, *rest])
    return part
