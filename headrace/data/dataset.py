"""`tf.data.Dataset`: a description of elements to come, made of nodes of the graph."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from headrace.api.export import export, export_value
from headrace.core import dtypes
from headrace.core.tensor_shape import TensorShape, as_shape
from headrace.data import nodes, structure
from headrace.data.from_generator import from_generator
from headrace.data.list_files import list_files
from headrace.data.nodes import Node
from headrace.data.options import Options
from headrace.data.reduce import reduced
from headrace.graph import default, raw
from headrace.graph.tensor import Tensor
from headrace.graph.type_spec import BatchableTypeSpec, TensorSpec

AUTOTUNE = export_value(-1, "data.experimental.AUTOTUNE")
"""A number of threads or elements to be found while the pipeline runs."""


class DatasetV2:
    """Elements to come, all of one structure.

    variant_tensor: what the nodes of other datasets, and iterators, take.
    """

    def __init__(self, variant_tensor: Tensor) -> None:
        self._variant_tensor_attr = variant_tensor
        self._graph_attr = default.get_default_graph()

    @property
    def _variant_tensor(self) -> Tensor:
        return self._variant_tensor_attr

    @property
    def _graph(self) -> Any:
        return self._graph_attr

    def _inputs(self) -> Sequence[DatasetV2]:
        return []

    def _functions(self) -> Sequence[Any]:
        return []

    @staticmethod
    def of(node: Node, inputs: Sequence[DatasetV2] = ()) -> DatasetV2:
        """The dataset that a node makes of others."""
        return NodeDataset(node, inputs)

    @property
    def element_spec(self) -> Any:
        """The description of an element: a structure of TypeSpecs."""
        raise NotImplementedError("Dataset.element_spec")

    @property
    def _type_spec(self) -> DatasetSpec:
        return DatasetSpec(self.element_spec)

    @property
    def _flat_shapes(self) -> list[TensorShape]:
        return structure.flat_shapes(self.element_spec)

    @property
    def _flat_types(self) -> list[Any]:
        return structure.flat_types(self.element_spec)

    @property
    def _flat_structure(self) -> dict[str, Any]:
        return structure.attrs_of(self.element_spec)

    def options(self) -> Options:
        """The options of the dataset and of its inputs, together."""
        found = Options()
        for source in self._inputs():
            found = found.merge(source.options())
        return found

    def _apply_options(self) -> DatasetV2:
        """The dataset as its options, and the defaults, change it."""
        options, dataset = self.options(), self
        threading = options.experimental_threading
        if threading is not None and threading.max_intra_op_parallelism is not None:
            count = nodes.int64(threading.max_intra_op_parallelism, "max_intra_op_parallelism")
            dataset = _with(dataset, "MaxIntraOpParallelismDataset", max_intra_op_parallelism=count)
        if threading is not None and threading.private_threadpool_size is not None:
            count = nodes.int64(threading.private_threadpool_size, "num_threads")
            dataset = _with(dataset, "PrivateThreadPoolDataset", num_threads=count)
        optimizations = options._static_optimizations()
        if optimizations and not self._has_captured_ref():
            names = nodes.convert_to_tensor(optimizations, dtypes.string, "optimizations")
            dataset = _with(
                dataset,
                "OptimizeDataset",
                optimizations=names,
                optimization_configs=options._static_optimization_configs(),
            )
        optimization = options.experimental_optimization
        if optimization is None or optimization.autotune is not False:
            budget = 0 if optimization is None else optimization.autotune_cpu_budget or 0
            dataset = _with(dataset, "ModelDataset", cpu_budget=budget)
        return dataset

    def _has_captured_ref(self) -> bool:
        """Whether a function uses the value of a reference variable: TensorFlow then changes nothing."""
        stack = [t for function in self._functions() for t in function.captured]
        seen = set()
        while stack:
            tensor = stack.pop()
            if tensor._dtype.is_ref_dtype:
                return True
            if tensor._op not in seen:
                seen.add(tensor._op)
                stack.extend(tensor._op._inputs)
        return any(source._has_captured_ref() for source in self._inputs())

    def __iter__(self) -> Any:
        raise RuntimeError(
            "__iter__() is only supported inside of tf.function or when eager execution is enabled."
        )

    def __bool__(self) -> bool:
        return True

    def __repr__(self) -> str:
        shapes = str(structure.map_structure(str, structure.legacy_shapes(self.element_spec)))
        types = str(structure.map_structure(repr, structure.legacy_types(self.element_spec)))
        shapes, types = shapes.replace("'", ""), types.replace("'", "")
        return f"<{type(self).__name__} shapes: {shapes}, types: {types}>"

    # ---- sources

    @staticmethod
    def from_tensors(tensors: Any) -> DatasetV2:
        """A dataset of one element: `tensors`, a structure of what tensors can be made of."""
        return NodeDataset(nodes.tensors(tensors))

    @staticmethod
    def from_tensor_slices(tensors: Any) -> DatasetV2:
        """The slices of tensors along their first axis, whose length is the same.

        Raises ValueError: a scalar, or different lengths.
        """
        return NodeDataset(nodes.tensor_slices(tensors))

    @staticmethod
    def from_generator(
        generator: Callable[..., Any],
        output_types: Any,
        output_shapes: Any = None,
        args: Any = None,
    ) -> DatasetV2:
        """What a Python generator yields; `generator(*args)` is called for each iteration.

        output_types, output_shapes: structures of the elements. Raises TypeError: no callable. While running:
        InvalidArgumentError for elements of another type or shape.
        """
        return from_generator(DatasetV2, generator, output_types, output_shapes, args)

    @staticmethod
    def range(*args: Any) -> DatasetV2:
        """Numbers (int64) as Python's `range(*args)` gives them. Raises ValueError: no arguments, or more than three."""
        return NodeDataset(nodes.range_of(*args))

    @staticmethod
    def zip(datasets: Any) -> DatasetV2:
        """Elements of several datasets (a structure of them) side by side, as long as each has one."""
        return NodeDataset(nodes.zipped(datasets, DatasetV2), structure.flatten(datasets))

    @staticmethod
    def list_files(file_pattern: Any, shuffle: bool | None = None, seed: Any = None) -> DatasetV2:
        """The names of the files that match patterns; in random order unless `shuffle` is false.

        While running: InvalidArgumentError where no file matches.
        """
        return list_files(DatasetV2, file_pattern, shuffle, seed)

    # ---- order

    def concatenate(self, dataset: Any) -> DatasetV2:
        """The elements of this dataset, then those of `dataset`. Raises TypeError: other types."""
        return NodeDataset(nodes.concatenated(self, dataset), [self, dataset])

    def prefetch(self, buffer_size: Any) -> DatasetV2:
        """The same elements, up to `buffer_size` of them computed ahead in another thread; AUTOTUNE finds a number."""
        size = nodes.int64(-1 if buffer_size is None else buffer_size, "buffer_size")
        return _with(self, "PrefetchDataset", buffer_size=size)

    def repeat(self, count: Any = None) -> DatasetV2:
        """The elements `count` times; for ever where that is None or -1."""
        return _with(
            self, "RepeatDataset", count=nodes.int64(-1 if count is None else count, "count")
        )

    def enumerate(self, start: Any = 0) -> DatasetV2:
        """Pairs of a number, from `start` on, and an element."""
        top = dtypes.int64.max
        return DatasetV2.zip((DatasetV2.range(start, top), self))

    def shuffle(
        self, buffer_size: Any, seed: Any = None, reshuffle_each_iteration: bool | None = None
    ) -> DatasetV2:
        """Elements in random order: each is drawn from a buffer of `buffer_size`.

        The same seeds give TensorFlow's own order. reshuffle_each_iteration: whether each repetition has another one (yes).
        """
        node = nodes.shuffled(self, buffer_size, seed, reshuffle_each_iteration)
        return NodeDataset(node, [self])

    def cache(self, filename: Any = "") -> DatasetV2:
        """The same elements, kept in memory or in a file from the first iteration on."""
        name = nodes.convert_to_tensor(filename, dtypes.string, "filename")
        return _with(self, "CacheDataset", filename=name)

    def take(self, count: Any) -> DatasetV2:
        """The first `count` elements; -1: all."""
        return _with(self, "TakeDataset", count=nodes.int64(count, "count"))

    def skip(self, count: Any) -> DatasetV2:
        """The elements after the first `count`; -1: none."""
        return _with(self, "SkipDataset", count=nodes.int64(count, "count"))

    def shard(self, num_shards: Any, index: Any) -> DatasetV2:
        """Every `num_shards`-th element, from number `index` on."""
        shards, number = nodes.int64(num_shards, "num_shards"), nodes.int64(index, "index")
        return _with(self, "ShardDataset", num_shards=shards, index=number)

    # ---- batches

    def batch(self, batch_size: Any, drop_remainder: Any = False) -> DatasetV2:
        """Elements stacked, `batch_size` at a time; the last batch may be smaller unless `drop_remainder` is set."""
        return NodeDataset(nodes.batched(self, batch_size, drop_remainder), [self])

    def padded_batch(
        self,
        batch_size: Any,
        padded_shapes: Any,
        padding_values: Any = None,
        drop_remainder: Any = False,
    ) -> DatasetV2:
        """As `batch`, of elements padded to `padded_shapes`; -1 or None there is the largest size in the batch.

        padding_values: 0 and "" where None. Raises TypeError, ValueError: shapes or values that do not fit.
        """
        node = nodes.padded(self, batch_size, padded_shapes, padding_values, drop_remainder)
        return NodeDataset(node, [self])

    def unbatch(self) -> DatasetV2:
        """The rows of the elements. Raises ValueError: scalars, or components of different lengths."""
        spec = self.element_spec

        def rows(*element: Any) -> Any:
            return structure.to_batched_tensors(
                spec, element if type(spec) is tuple else element[0]
            )

        if all(isinstance(s, TensorSpec) for s in structure.flatten(spec)):
            return NodeDataset(nodes.unbatched(self), [self])
        # A sparse component is packed as a whole; its rows have to become sparse tensors again.
        packed = self.map(rows)
        unbatched = NodeDataset(nodes.unbatched(packed), [packed])
        wanted = structure.map_structure(lambda s: s._unbatch(), spec)
        return NodeDataset(Node(unbatched._variant_tensor, wanted), [unbatched])

    def window(
        self, size: Any, shift: Any = None, stride: Any = 1, drop_remainder: Any = False
    ) -> DatasetV2:
        """Datasets of `size` elements, each begun `shift` elements after the one before, `stride` elements apart."""
        spec = structure.map_structure(DatasetSpec, self.element_spec)
        variant = raw.WindowDataset(
            input_dataset=self._variant_tensor,
            size=nodes.int64(size, "size"),
            shift=nodes.int64(size if shift is None else shift, "shift"),
            stride=nodes.int64(stride, "stride"),
            drop_remainder=nodes.boolean(drop_remainder, "drop_remainder"),
            **structure.attrs_of(spec),
        )
        return NodeDataset(Node(variant, spec), [self])

    # ---- functions

    def map(self, map_func: Callable[..., Any], num_parallel_calls: Any = None) -> DatasetV2:
        """`map_func` of each element, `num_parallel_calls` at a time (AUTOTUNE finds a number); the order stays.

        map_func: takes the components (of a tuple, one argument each) as tensors and returns a structure of tensors.
        Raises TypeError: it returns something else.
        """
        return NodeDataset(nodes.mapped(self, map_func, num_parallel_calls, True), [self])

    def flat_map(self, map_func: Callable[..., Any]) -> DatasetV2:
        """The elements of the datasets that `map_func` makes, one dataset after the other. Raises TypeError: no datasets."""
        name = "Dataset.flat_map()"
        return NodeDataset(
            nodes.flattened(self, map_func, "FlatMapDataset", name, DatasetSpec), [self]
        )

    def interleave(
        self,
        map_func: Callable[..., Any],
        cycle_length: Any = AUTOTUNE,
        block_length: Any = 1,
        num_parallel_calls: Any = None,
    ) -> DatasetV2:
        """The elements of the datasets that `map_func` makes, in turn `block_length` of each of `cycle_length` datasets.

        Raises TypeError: no datasets.
        """
        arguments: dict[str, Any] = {
            "cycle_length": lambda: nodes.int64(cycle_length, "cycle_length"),
            "block_length": lambda: nodes.int64(block_length, "block_length"),
        }
        op_type = "InterleaveDataset"
        if num_parallel_calls is not None:
            op_type = "ParallelInterleaveDatasetV2"
            arguments["num_parallel_calls"] = lambda: nodes.int64(
                num_parallel_calls, "num_parallel_calls"
            )
        node = nodes.flattened(
            self, map_func, op_type, "Dataset.interleave()", DatasetSpec, **arguments
        )
        return NodeDataset(node, [self])

    def filter(self, predicate: Callable[..., Any]) -> DatasetV2:
        """The elements for which `predicate` is true. Raises ValueError: it returns no scalar bool."""
        node = nodes.filtered(self, predicate, "FilterDataset", "Dataset.filter()")
        return NodeDataset(node, [self])

    def apply(self, transformation_func: Callable[[Any], Any]) -> Any:
        """`transformation_func(self)`. Raises TypeError: it returns no dataset."""
        dataset = transformation_func(self)
        if not isinstance(dataset, DatasetV2):
            raise TypeError("`transformation_func` must return a Dataset.")
        return dataset

    def reduce(self, initial_state: Any, reduce_func: Callable[..., Any]) -> Any:
        """The last state that `reduce_func(state, element)` gives: tensors, of the structure of `initial_state`.

        Raises TypeError: the states differ in their types.
        """
        return reduced(self, initial_state, reduce_func)

    def with_options(self, options: Options) -> DatasetV2:
        """The same dataset with options. Raises ValueError: they contradict those that it has."""
        return _OptionsDataset(self, options)


class NodeDataset(DatasetV2):
    """The dataset of a node, made of others."""

    def __init__(self, node: Node, inputs: Sequence[DatasetV2] = ()) -> None:
        super().__init__(node.variant)
        self._spec, self._sources, self._kept = node.spec, inputs, node.functions

    @property
    def element_spec(self) -> Any:
        return self._spec

    def _inputs(self) -> Sequence[DatasetV2]:
        return self._sources

    def _functions(self) -> Sequence[Any]:
        return self._kept


def _with(source: DatasetV2, op_type: str, **arguments: Any) -> NodeDataset:
    return NodeDataset(nodes.unchanged(op_type, source, **arguments), [source])


class _OptionsDataset(NodeDataset):
    def __init__(self, source: DatasetV2, options: Options) -> None:
        super().__init__(Node(source._variant_tensor, source.element_spec), [source])
        self._options = source.options().merge(options)

    def options(self) -> Options:
        return self._options


class VariantDataset(NodeDataset):
    """The dataset in a variant, of which nothing else is known."""

    def __init__(self, dataset_variant: Tensor, structure: Any) -> None:
        super().__init__(Node(dataset_variant, structure))


class _Datasets:
    """Several datasets in one tensor: what an element of a batch of datasets is."""

    def __init__(self, variant_tensor: Tensor, spec: DatasetSpec) -> None:
        self._variant_tensor, self._type_spec = variant_tensor, spec


@export("data.DatasetSpec", "data.experimental.DatasetStructure")
class DatasetSpec(BatchableTypeSpec):
    """Describes datasets: their elements. dataset_shape: of several datasets in one tensor."""

    __slots__ = ("_dataset_shape", "_element_spec")

    def __init__(self, element_spec: Any, dataset_shape: Any = ()) -> None:
        self._element_spec = element_spec
        self._dataset_shape = as_shape(dataset_shape)

    @property
    def value_type(self) -> Any:
        """The class of datasets in variants."""
        return VariantDataset

    @staticmethod
    def from_value(value: Any) -> DatasetSpec:
        """The description of a dataset."""
        return DatasetSpec(value.element_spec)

    def _serialize(self) -> tuple[Any, ...]:
        return (self._element_spec, self._dataset_shape)

    @property
    def _component_specs(self) -> Any:
        return TensorSpec(self._dataset_shape, dtypes.variant)

    def _to_components(self, value: Any) -> Any:
        return value._variant_tensor

    def _from_components(self, components: Any) -> Any:
        if self._dataset_shape.ndims == 0:
            return VariantDataset(components, self._element_spec)
        return _Datasets(components, self)

    def _to_tensor_list(self, value: Any) -> list[Any]:
        if isinstance(value, list):
            return [raw.Pack(values=[v._variant_tensor for v in value])]
        return [value._variant_tensor]

    def _from_compatible_tensor_list(self, tensor_list: list[Any]) -> Any:
        return self._from_components(tensor_list[0])

    @property
    def _flat_tensor_specs(self) -> list[Any]:
        return [self._component_specs]

    def _batch(self, batch_size: int | None) -> DatasetSpec:
        shape = TensorShape([batch_size]).concatenate(self._dataset_shape)
        return DatasetSpec(self._element_spec, shape)

    def _unbatch(self) -> DatasetSpec:
        if self._dataset_shape.ndims == 0:
            raise ValueError("Unbatching a dataset is only supported for rank >= 1")
        return DatasetSpec(self._element_spec, self._dataset_shape[1:])

    def _to_batched_tensor_list(self, value: Any) -> list[Any]:
        if self._dataset_shape.ndims == 0:
            raise ValueError("Unbatching a dataset is only supported for rank >= 1")
        return self._to_tensor_list(value)

    def _to_legacy_output_types(self) -> Any:
        return self

    def _to_legacy_output_shapes(self) -> Any:
        return self

    def _to_legacy_output_classes(self) -> Any:
        return self
