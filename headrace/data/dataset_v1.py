"""`tf.data.Dataset` as TensorFlow 1.x has it: with one-shot and initializable iterators."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from headrace.api import random_seed
from headrace.api.defun import Defun
from headrace.api.export import export, export_value
from headrace.core import dtypes
from headrace.data import nodes, structure
from headrace.data.dataset import DatasetV2, NodeDataset
from headrace.data.iterator import Iterator
from headrace.graph import default, raw
from headrace.graph.operation import Operation
from headrace.graph.tensor import Tensor

_MOST_SEED = 2**63 - 1


@export("data.Dataset")
class DatasetV1(DatasetV2):
    """Elements to come, all of one structure: tensors, or tuples and dictionaries of them."""

    def __init__(self) -> None:
        super().__init__(self._as_variant_tensor())

    def _as_variant_tensor(self) -> Tensor:
        raise NotImplementedError("Dataset._as_variant_tensor")

    # ---- iterators

    def make_one_shot_iterator(self) -> Iterator:
        """An iterator that begins by itself, and goes through the dataset once.

        Raises ValueError: the dataset uses variables or other resources, which only `make_initializable_iterator` can.
        """
        return self._make_one_shot_iterator()

    def _make_one_shot_iterator(self) -> Iterator:
        graph_seed, op_seed = random_seed.get_seed(None)

        def _make_dataset() -> Tensor:
            if graph_seed is not None and op_seed is not None:
                seed = (graph_seed + 87654321 * op_seed) % _MOST_SEED
                default.get_default_graph().seed = seed
            return self._apply_options()._variant_tensor

        allowed = _dataset_operations(self._variant_tensor)
        factory = Defun(capture_by_value=True, whitelisted_stateful_ops=allowed)(_make_dataset)
        try:
            factory.add_to_graph(default.get_default_graph())
        except ValueError as error:
            if "Cannot capture a stateful node" not in str(error):
                raise
            raise ValueError(
                "Failed to create a one-shot iterator for a dataset. `Dataset.make_one_shot_iterator()` does not "
                "support datasets that capture stateful objects, such as a `Variable` or `LookupTable`. In these cases, "
                f"use `Dataset.make_initializable_iterator()`. (Original error: {error})"
            ) from error
        resource = raw.OneShotIterator(dataset_factory=factory.name, **self._flat_structure)
        return Iterator._of(resource, None, self.element_spec)

    def make_initializable_iterator(self, shared_name: str | None = None) -> Iterator:
        """An iterator that begins, each time anew, when `iterator.initializer` is run."""
        return self._make_initializable_iterator(shared_name)

    def _make_initializable_iterator(self, shared_name: str | None = None) -> Iterator:
        dataset = self._apply_options()
        resource = raw.IteratorV2(
            container="", shared_name=shared_name or "", **self._flat_structure
        )
        with default.get_default_graph().colocate_with(resource.op):
            initializer = raw.MakeIterator(dataset=dataset._variant_tensor, iterator=resource)
        return Iterator._of(resource, initializer, self.element_spec)

    # ---- what elements are

    @property
    def output_classes(self) -> Any:
        """The classes of the components, in their structure."""
        return structure.legacy_classes(self.element_spec)

    @property
    def output_shapes(self) -> Any:
        """The shapes of the components, in their structure."""
        return structure.legacy_shapes(self.element_spec)

    @property
    def output_types(self) -> Any:
        """The types of the components, in their structure."""
        return structure.legacy_types(self.element_spec)

    # ---- what only this class has

    @staticmethod
    def from_sparse_tensor_slices(sparse_tensor: Any) -> DatasetV1:
        """The rows of a sparse tensor, each as (indices, values, dense_shape). Raises TypeError: not sparse."""
        return DatasetV1Adapter(NodeDataset(nodes.sparse_tensor_slices(sparse_tensor)))

    def map(self, map_func: Callable[..., Any], num_parallel_calls: Any = None) -> DatasetV1:
        """As DatasetV2's; the dataset ends where `map_func` raises OutOfRangeError."""
        node = nodes.mapped(self, map_func, num_parallel_calls, False)
        return DatasetV1Adapter(NodeDataset(node, [self]))

    def map_with_legacy_function(
        self, map_func: Callable[..., Any], num_parallel_calls: Any = None
    ) -> DatasetV1:
        """As `map`."""
        return self.map(map_func, num_parallel_calls)

    def filter_with_legacy_function(self, predicate: Callable[..., Any]) -> DatasetV1:
        """As `filter`."""
        return self.filter(predicate)  # type: ignore[return-value]


export_value(DatasetV2, "compat.v2.data.Dataset")


class DatasetV1Adapter(DatasetV1):
    """Another dataset, with the methods of DatasetV1."""

    def __init__(self, dataset: DatasetV2) -> None:
        self._dataset = dataset
        super().__init__()

    def _as_variant_tensor(self) -> Tensor:
        return self._dataset._variant_tensor

    def _has_captured_ref(self) -> bool:
        return self._dataset._has_captured_ref()

    def _inputs(self) -> Any:
        return self._dataset._inputs()

    def _functions(self) -> Any:
        return self._dataset._functions()

    def options(self) -> Any:
        return self._dataset.options()

    @property
    def element_spec(self) -> Any:
        return self._dataset.element_spec


def as_v1(dataset: DatasetV2) -> DatasetV1:
    """The dataset with the methods of DatasetV1."""
    return dataset if isinstance(dataset, DatasetV1) else DatasetV1Adapter(dataset)


def _adapted(function: Any) -> Any:
    @functools.wraps(function)
    def made(*args: Any, **kwargs: Any) -> DatasetV1:
        return as_v1(function(*args, **kwargs))

    return made


for _name in "from_tensors from_tensor_slices from_generator range zip list_files".split():
    setattr(DatasetV1, _name, staticmethod(_adapted(getattr(DatasetV2, _name))))
for _name in (
    "concatenate prefetch repeat enumerate shuffle cache take skip shard batch padded_batch unbatch window flat_map "
    "interleave filter apply with_options"
).split():
    setattr(DatasetV1, _name, _adapted(getattr(DatasetV2, _name)))


def _dataset_operations(tensor: Tensor) -> set[Operation]:
    """The operations that make the dataset in a variant, as far as they make variants or tables of them."""
    found: set[Operation] = set()
    stack = [tensor]
    while stack:
        op = stack.pop()._op
        if op not in found and any(t._dtype is dtypes.variant for t in op._outputs):
            found.add(op)
            stack.extend(op._inputs)
    return found


# ---- functions on any dataset


@export("data.make_one_shot_iterator")
def make_one_shot_iterator(dataset: DatasetV2) -> Iterator:
    """As `Dataset.make_one_shot_iterator()`, for any dataset."""
    return as_v1(dataset)._make_one_shot_iterator()


@export("data.make_initializable_iterator")
def make_initializable_iterator(dataset: DatasetV2, shared_name: str | None = None) -> Iterator:
    """As `Dataset.make_initializable_iterator()`, for any dataset."""
    return as_v1(dataset)._make_initializable_iterator(shared_name)


@export("data.experimental.get_structure")
def get_structure(dataset_or_iterator: Any) -> Any:
    """The description of the elements. Raises TypeError: neither a dataset nor an iterator."""
    try:
        return dataset_or_iterator.element_spec
    except AttributeError:
        raise TypeError(
            f"`dataset_or_iterator` must be a Dataset or Iterator object, but got {type(dataset_or_iterator)}."
        ) from None


@export("data.get_output_classes")
def get_output_classes(dataset_or_iterator: Any) -> Any:
    """The classes of the components, in their structure."""
    return structure.legacy_classes(get_structure(dataset_or_iterator))


@export("data.get_output_shapes")
def get_output_shapes(dataset_or_iterator: Any) -> Any:
    """The shapes of the components, in their structure."""
    return structure.legacy_shapes(get_structure(dataset_or_iterator))


@export("data.get_output_types")
def get_output_types(dataset_or_iterator: Any) -> Any:
    """The types of the components, in their structure."""
    return structure.legacy_types(get_structure(dataset_or_iterator))
