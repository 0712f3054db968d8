"""Datasets of what files hold: lines, TFRecords, records of one length."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from headrace.api.export import export
from headrace.core import dtypes
from headrace.core.tensor_shape import TensorShape
from headrace.data import nodes, structure
from headrace.data.dataset import DatasetSpec, DatasetV2, NodeDataset
from headrace.data.dataset_v1 import DatasetV1Adapter
from headrace.data.nodes import Node
from headrace.graph import raw
from headrace.graph.convert import convert_to_tensor
from headrace.graph.tensor import Tensor
from headrace.graph.type_spec import TensorSpec

_BUFFER_BYTES = 256 * 1024


def _names(filenames: Any) -> DatasetV2:
    """A dataset of names of files. Raises TypeError: another dataset than of scalar strings."""
    if not isinstance(filenames, DatasetV2):
        names = convert_to_tensor(filenames, dtypes.string)
        return DatasetV2.from_tensor_slices(raw.Reshape(names, [-1], name="flat_filenames"))
    if structure.legacy_types(filenames.element_spec) != dtypes.string:
        raise TypeError("`filenames` must be a `tf.data.Dataset` of `tf.string` elements.")
    if not filenames.element_spec.shape.is_compatible_with(TensorShape([])):
        raise TypeError("`filenames` must be a `tf.data.Dataset` of scalar `tf.string` elements.")
    return filenames


def _read(filenames: Any, reader: Callable[[Tensor], Tensor], num_parallel_reads: Any) -> DatasetV2:
    """What `reader` gives for each file, one after the other or several in turn."""
    names = _names(filenames)

    def read_one_file(filename: Any) -> DatasetV2:
        return NodeDataset(Node(reader(filename), TensorSpec([], dtypes.string)))

    if num_parallel_reads is None:
        return names.flat_map(read_one_file)
    if num_parallel_reads == -1:
        return names.interleave(read_one_file, num_parallel_calls=num_parallel_reads)
    return interleaved_in_parallel(names, read_one_file, num_parallel_reads, 1, False, None, None)


def interleaved_in_parallel(
    source: DatasetV2,
    map_func: Callable[..., Any],
    cycle_length: Any,
    block_length: Any,
    sloppy: Any,
    buffer_output_elements: Any,
    prefetch_input_elements: Any,
) -> DatasetV2:
    """See `tf.data.experimental.parallel_interleave`."""
    node = nodes.flattened(
        source,
        map_func,
        "ParallelInterleaveDataset",
        "tf.data.experimental.parallel_interleave()",
        DatasetSpec,
        cycle_length=lambda: nodes.int64(cycle_length, "cycle_length"),
        block_length=lambda: nodes.int64(block_length, "block_length"),
        sloppy=lambda: nodes.boolean(sloppy, "sloppy"),
        buffer_output_elements=lambda: nodes.int64(
            2 * block_length if buffer_output_elements is None else buffer_output_elements,
            "buffer_output_elements",
        ),
        prefetch_input_elements=lambda: nodes.int64(
            2 * cycle_length if prefetch_input_elements is None else prefetch_input_elements,
            "prefetch_input_elements",
        ),
    )
    return NodeDataset(node, [source])


def _reader(
    build: Callable[..., Tensor],
    compression_type: Any,
    buffer_size: Any,
    **arguments: Callable[[], Tensor],
) -> Callable[[Tensor], Tensor]:
    """What makes the node that reads the file of a name; the arguments become nodes next to it."""

    def reader(filename: Tensor) -> Tensor:
        return build(
            filenames=filename,
            **{name: make() for name, make in arguments.items()},
            buffer_size=nodes.int64(
                _BUFFER_BYTES if buffer_size is None else buffer_size, "buffer_size"
            ),
            compression_type=convert_to_tensor(
                "" if compression_type is None else compression_type,
                dtypes.string,
                "compression_type",
            ),
        )

    return reader


@export("data.TextLineDataset")
class TextLineDataset(DatasetV1Adapter):
    """The lines of text files, without their ends.

    filenames: strings, or a dataset of them. compression_type: "", "ZLIB" or "GZIP". num_parallel_reads: so many files in
    turn. Raises TypeError: a dataset of something else.
    """

    def __init__(
        self,
        filenames: Any,
        compression_type: Any = None,
        buffer_size: Any = None,
        num_parallel_reads: Any = None,
    ) -> None:
        reader = _reader(raw.TextLineDataset, compression_type, buffer_size)
        super().__init__(_read(filenames, reader, num_parallel_reads))


@export("data.TFRecordDataset")
class TFRecordDataset(DatasetV1Adapter):
    """The records of TFRecord files, as strings.

    Arguments and errors as TextLineDataset's; DataLossError while running where a record does not fit its checksums.
    """

    def __init__(
        self,
        filenames: Any,
        compression_type: Any = None,
        buffer_size: Any = None,
        num_parallel_reads: Any = None,
    ) -> None:
        reader = _reader(raw.TFRecordDataset, compression_type, buffer_size)
        super().__init__(_read(filenames, reader, num_parallel_reads))


@export("data.FixedLengthRecordDataset")
class FixedLengthRecordDataset(DatasetV1Adapter):
    """The records of `record_bytes` bytes in binary files, as strings.

    header_bytes, footer_bytes: left out at the start and the end of each file. Else as TextLineDataset's.
    """

    def __init__(
        self,
        filenames: Any,
        record_bytes: Any,
        header_bytes: Any = None,
        footer_bytes: Any = None,
        buffer_size: Any = None,
        compression_type: Any = None,
        num_parallel_reads: Any = None,
    ) -> None:
        reader = _reader(
            raw.FixedLengthRecordDatasetV2,
            compression_type,
            buffer_size,
            header_bytes=lambda: nodes.int64(header_bytes or 0, "header_bytes"),
            record_bytes=lambda: nodes.int64(record_bytes, "record_bytes"),
            footer_bytes=lambda: nodes.int64(footer_bytes or 0, "footer_bytes"),
        )
        super().__init__(_read(filenames, reader, num_parallel_reads))
