"""`tf.data.experimental`: functions for `Dataset.apply`, and datasets chosen from others."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from headrace.api.export import export, export_value
from headrace.core import dtypes
from headrace.core.tensor_shape import TensorShape
from headrace.data import nodes, structure
from headrace.data.dataset import DatasetV2, NodeDataset, VariantDataset
from headrace.data.dataset_v1 import DatasetV1, DatasetV1Adapter, as_v1
from headrace.data.function import StructuredFunction
from headrace.data.nodes import Node
from headrace.data.readers import interleaved_in_parallel
from headrace.data.reduce import stateful_function
from headrace.graph import raw
from headrace.graph.constant_value import constant_value, constant_value_as_shape
from headrace.graph.convert import convert_to_tensor
from headrace.graph.sparse_tensor import SparseTensorSpec
from headrace.graph.tensor import Tensor
from headrace.graph.type_spec import TensorSpec

Apply = Callable[[DatasetV2], DatasetV2]

INFINITE_CARDINALITY = export_value(-1, "data.experimental.INFINITE_CARDINALITY")
UNKNOWN_CARDINALITY = export_value(-2, "data.experimental.UNKNOWN_CARDINALITY")


@export("data.experimental.cardinality")
def cardinality(dataset: DatasetV2) -> Tensor:
    """The number of elements (int64), INFINITE_CARDINALITY, or UNKNOWN_CARDINALITY where only counting would tell."""
    return raw.DatasetCardinality(input_dataset=dataset._variant_tensor)


@export("data.experimental.Counter")
def Counter(start: Any = 0, step: Any = 1, dtype: Any = dtypes.int64) -> DatasetV1:
    """The numbers `start`, `start + step`, ... without end."""
    first, difference = (
        convert_to_tensor(v, dtype, n) for v, n in ((start, "start"), (step, "step"))
    )
    counts = DatasetV2.from_tensors(0).repeat(None)

    def following(state: Tensor, _: Tensor) -> tuple[Tensor, Tensor]:
        return raw.AddV2(x=state, y=difference), state

    return as_v1(counts.apply(scan(first, following)))


@export("data.experimental.enumerate_dataset")
def enumerate_dataset(start: Any = 0) -> Apply:
    """As `Dataset.enumerate(start)`."""
    return lambda dataset: dataset.enumerate(start)


@export("data.experimental.unbatch")
def unbatch() -> Apply:
    """As `Dataset.unbatch()`."""
    return lambda dataset: dataset.unbatch()


@export("data.experimental.unique")
def unique() -> Apply:
    """Each element once: scalars of type int32, int64 or string.

    Raises TypeError, when applied: other elements.
    """

    def apply(dataset: DatasetV2) -> DatasetV2:
        spec = dataset.element_spec
        if not isinstance(spec, TensorSpec) or spec.dtype not in (
            dtypes.int32,
            dtypes.int64,
            dtypes.string,
        ):
            raise TypeError(
                "`tf.data.experimental.unique()` only supports inputs with a single `tf.int32`, `tf.int64`, or "
                "`tf.string` component."
            )
        return NodeDataset(nodes.unchanged("UniqueDataset", dataset), [dataset])

    return apply


@export("data.experimental.ignore_errors")
def ignore_errors() -> Apply:
    """The elements that come about without an error."""
    return lambda dataset: NodeDataset(nodes.unchanged("IgnoreErrorsDataset", dataset), [dataset])


@export("data.experimental.shuffle_and_repeat")
def shuffle_and_repeat(buffer_size: Any, count: Any = None, seed: Any = None) -> Apply:
    """As `shuffle` and then `repeat`, with a buffer that spans the epochs."""

    def apply(dataset: DatasetV2) -> DatasetV2:
        size = nodes.int64(buffer_size, "buffer_size")
        number = nodes.int64(-1 if count is None else count, "count")
        first, second = nodes.seeds(seed)
        node = nodes.unchanged(
            "ShuffleAndRepeatDataset",
            dataset,
            buffer_size=size,
            count=number,
            seed=first,
            seed2=second,
        )
        return NodeDataset(node, [dataset])

    return apply


@export("data.experimental.map_and_batch", "data.experimental.map_and_batch_with_legacy_function")
def map_and_batch(
    map_func: Callable[..., Any],
    batch_size: Any,
    num_parallel_batches: Any = None,
    drop_remainder: Any = False,
    num_parallel_calls: Any = None,
) -> Apply:
    """`map` and then `batch`, in one. Raises ValueError: both numbers of parallel work are given."""
    if num_parallel_batches is not None and num_parallel_calls is not None:
        raise ValueError(
            "The `num_parallel_batches` and `num_parallel_calls` arguments are mutually exclusive."
        )
    calls = num_parallel_calls
    if calls is None:
        calls = (
            batch_size * num_parallel_batches if num_parallel_batches is not None else batch_size
        )

    def apply(dataset: DatasetV2) -> DatasetV2:
        name = "tf.data.experimental.map_and_batch()"
        made = StructuredFunction(map_func, name, dataset.element_spec)
        size = nodes.int64(batch_size, "batch_size")
        drop = nodes.boolean(drop_remainder, "drop_remainder")
        known = constant_value(size) if constant_value(drop) else None
        count = None if known is None else int(known)
        spec = structure.map_structure(lambda s: s._batch(count), made.output_spec)
        variant = raw.MapAndBatchDataset(
            input_dataset=dataset._variant_tensor,
            other_arguments=made.captured,
            batch_size=size,
            num_parallel_calls=nodes.int64(calls, "num_parallel_calls"),
            drop_remainder=drop,
            f=made.ref,
            preserve_cardinality=True,
            **structure.attrs_of(spec),
        )
        return NodeDataset(Node(variant, spec, (made,)), [dataset])

    return apply


@export("data.experimental.parallel_interleave")
def parallel_interleave(
    map_func: Callable[..., Any],
    cycle_length: Any,
    block_length: Any = 1,
    sloppy: Any = False,
    buffer_output_elements: Any = None,
    prefetch_input_elements: Any = None,
) -> Apply:
    """As `Dataset.interleave`. The order is always the same, whatever `sloppy` allows."""
    return lambda dataset: interleaved_in_parallel(
        dataset,
        map_func,
        cycle_length,
        block_length,
        sloppy,
        buffer_output_elements,
        prefetch_input_elements,
    )


@export("data.experimental.scan")
def scan(initial_state: Any, scan_func: Callable[..., Any]) -> Apply:
    """The outputs of `scan_func(state, element)`, which returns the next state and an output.

    Raises TypeError, when applied: no pair, or states of different types.
    """

    def new_state(output: Any) -> Any:
        if not (isinstance(output, tuple) and len(output) == 2):
            raise TypeError(
                "The scan function must return a pair comprising the new state and the output value."
            )
        return output[0]

    def apply(dataset: DatasetV2) -> DatasetV2:
        name = "tf.data.experimental.scan()"
        state = structure.normalize(initial_state)
        made, spec = stateful_function(
            scan_func, name, structure.spec_of(state), dataset.element_spec, new_state
        )
        output = made.output_spec[1]
        variant = raw.ScanDataset(
            input_dataset=dataset._variant_tensor,
            initial_state=structure.to_tensors(spec, state),
            other_arguments=made.captured,
            f=made.ref,
            preserve_cardinality=True,
            **structure.attrs_of(output),
        )
        return NodeDataset(Node(variant, output, (made,)), [dataset])

    return apply


@export("data.experimental.take_while")
def take_while(predicate: Callable[..., Any]) -> Apply:
    """The elements before the first one for which `predicate` is false. Raises ValueError: it returns no scalar bool."""
    name = "tf.data.experimental.take_while()"
    return lambda dataset: NodeDataset(
        nodes.filtered(dataset, predicate, "TakeWhileDataset", name), [dataset]
    )


@export("data.experimental.dense_to_sparse_batch")
def dense_to_sparse_batch(batch_size: Any, row_shape: Any) -> Apply:
    """Tensors of one rank and different sizes, batched as sparse tensors.

    row_shape: the largest sizes; None: as large as need be. Raises TypeError, when applied: not a single tensor.
    """

    def apply(dataset: DatasetV2) -> DatasetV2:
        if not isinstance(dataset.element_spec, TensorSpec):
            raise TypeError(
                "DenseToSparseDataset requires an input whose elements have a single component, but got "
                f"{structure.legacy_types(dataset.element_spec)}."
            )
        shape = nodes.partial_shape(row_shape)
        static = TensorShape.of(constant_value_as_shape(shape))
        spec = SparseTensorSpec(TensorShape([None]).concatenate(static), dataset.element_spec.dtype)
        variant = raw.DenseToSparseBatchDataset(
            input_dataset=dataset._variant_tensor,
            batch_size=nodes.int64(batch_size, "batch_size"),
            row_shape=shape,
            **structure.attrs_of(spec),
        )
        return NodeDataset(Node(variant, spec), [dataset])

    return apply


@export("data.experimental.get_single_element")
def get_single_element(dataset: DatasetV2) -> Any:
    """The only element, as tensors. Raises TypeError: no dataset. While running InvalidArgumentError: none, or several."""
    if not isinstance(dataset, DatasetV2):
        raise TypeError("`dataset` must be a `tf.data.Dataset` object.")
    spec = dataset.element_spec
    flat = raw.DatasetToSingleElement(dataset=dataset._variant_tensor, **structure.attrs_of(spec))
    return structure.from_tensors(spec, flat)


@export("data.experimental.to_variant")
def to_variant(dataset: DatasetV2) -> Tensor:
    """The variant that holds the dataset."""
    return dataset._variant_tensor


@export("data.experimental.from_variant")
def from_variant(variant: Tensor, structure: Any) -> DatasetV2:
    """The dataset in a variant; structure: the description of its elements."""
    return VariantDataset(variant, structure)


@export("data.experimental.RandomDataset")
class RandomDataset(DatasetV1Adapter):
    """Pseudorandom numbers (int64, below 2**32) without end: TensorFlow's own for the same seed."""

    def __init__(self, seed: Any = None) -> None:
        first, second = nodes.seeds(seed)
        spec = TensorSpec([], dtypes.int64)
        variant = raw.RandomDataset(seed=first, seed2=second, **structure.attrs_of(spec))
        super().__init__(NodeDataset(Node(variant, spec)))


@export("data.experimental.TFRecordWriter")
class TFRecordWriter:
    """Writes the elements of a dataset, scalar strings, to a TFRecord file."""

    def __init__(self, filename: Any, compression_type: Any = None) -> None:
        self._filename = convert_to_tensor(filename, dtypes.string, "filename")
        self._compression = convert_to_tensor(compression_type or "", dtypes.string)

    def write(self, dataset: DatasetV2) -> Any:
        """The operation that writes. Raises TypeError: other elements."""
        spec = dataset.element_spec if isinstance(dataset, DatasetV2) else None
        if not isinstance(spec, TensorSpec) or spec.dtype != dtypes.string or spec.shape.ndims != 0:
            raise TypeError(
                f"`dataset` must be a dataset of scalar `DT_STRING` tensors, but its elements are {spec}."
            )
        return raw.DatasetToTFRecord(
            input_dataset=dataset._variant_tensor,
            filename=self._filename,
            compression_type=self._compression,
        )


# ---- one of several datasets


def _directed(selector: DatasetV2, datasets: Sequence[DatasetV2]) -> DatasetV1:
    first = datasets[0]
    spec = first.element_spec
    for other in datasets[1:]:
        if structure.legacy_types(other.element_spec) != structure.legacy_types(spec):
            raise TypeError("All datasets must have the same type and class.")
        spec = structure.map_structure(
            lambda a, b: a.most_specific_compatible_type(b), spec, other.element_spec
        )
    variant = raw.DirectedInterleaveDataset(
        selector_input_dataset=selector._variant_tensor,
        data_input_datasets=[d._variant_tensor for d in datasets],
        **structure.attrs_of(spec),
    )
    return DatasetV1Adapter(NodeDataset(Node(variant, spec), [selector, *datasets]))


@export("data.experimental.choose_from_datasets")
def choose_from_datasets(datasets: Sequence[DatasetV2], choice_dataset: DatasetV2) -> DatasetV1:
    """Elements of several datasets, each of the one whose number `choice_dataset` gives.

    Raises TypeError: choices that are no scalar int64, or datasets of different types.
    """
    spec = choice_dataset.element_spec
    if not isinstance(spec, TensorSpec) or not spec.is_compatible_with(
        TensorSpec([], dtypes.int64)
    ):
        raise TypeError("`choice_dataset` must be a dataset of scalar `tf.int64` tensors.")
    return _directed(choice_dataset, datasets)


@export("data.experimental.sample_from_datasets")
def sample_from_datasets(
    datasets: Sequence[DatasetV2], weights: Any = None, seed: Any = None
) -> DatasetV1:
    """Elements of several datasets at random.

    weights: how probable each is, a vector or a dataset of vectors; the same where None. Raises TypeError, ValueError:
    weights that do not fit.
    """
    seeds = RandomDataset(seed).batch(2)
    if isinstance(weights, DatasetV2):
        logits = weights.map(lambda p: raw.Log(x=p, name="logits"))
        selector = DatasetV2.zip((logits, seeds)).map(_drawn)
        return _directed(selector, datasets)
    if weights is None:
        row = convert_to_tensor(np.ones((1, len(datasets)), np.float32))
    else:
        vector = convert_to_tensor(weights, name="weights")
        if vector.dtype not in (dtypes.float32, dtypes.float64):
            raise TypeError(
                "`weights` must be convertible to a tensor of `tf.float32` or `tf.float64` elements."
            )
        if not vector.shape.is_compatible_with([len(datasets)]):
            raise ValueError("`weights` must be a vector of length `len(datasets)`.")
        row = raw.ExpandDims(input=raw.Log(x=vector, name="logits"), dim=0)
    if len(datasets) == 1:
        return as_v1(datasets[0])
    return _directed(DatasetV2.map(seeds, lambda s: _drawn(row, s)), datasets)


def _drawn(logits: Tensor, seed: Tensor) -> Tensor:
    if logits.shape.ndims == 1:
        logits = raw.ExpandDims(input=logits, dim=0)
    drawn = raw.StatelessMultinomial(logits=logits, num_samples=1, seed=seed)
    return raw.Squeeze(input=drawn, squeeze_dims=[0, 1])
