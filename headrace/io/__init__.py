"""Bytes in files: checkpoints, tables, records, event logs, and the local file system.

What belongs here knows formats and durability, and nothing of graphs or devices. Nothing that a file
says is believed: lengths, types and checksums are looked at before memory is taken, and a truncated
or altered file raises DataLossError with what, where and which file.
"""

from headrace.io.checkpoint_reader import CheckpointReader, checkpoint_exists, open_checkpoint
from headrace.io.checkpoint_v1 import TensorSliceReader, TensorSliceWriter
from headrace.io.event_file import EventFileWriter, EventsWriter, summary_iterator
from headrace.io.file_io import FileIO, FileStatistics, atomic_write, write_string_to_file
from headrace.io.tensor_bundle import BundleReader, BundleWriter, merge_bundles
from headrace.io.tensor_slice import TensorSlice, parse_shape_and_slice
from headrace.io.tf_record import (
    RecordReader,
    TFRecordCompressionType,
    TFRecordOptions,
    TFRecordWriter,
    tf_record_iterator,
)

__all__ = [
    "BundleReader",
    "BundleWriter",
    "CheckpointReader",
    "EventFileWriter",
    "EventsWriter",
    "FileIO",
    "FileStatistics",
    "RecordReader",
    "TFRecordCompressionType",
    "TFRecordOptions",
    "TFRecordWriter",
    "TensorSlice",
    "TensorSliceReader",
    "TensorSliceWriter",
    "atomic_write",
    "checkpoint_exists",
    "merge_bundles",
    "open_checkpoint",
    "parse_shape_and_slice",
    "summary_iterator",
    "tf_record_iterator",
    "write_string_to_file",
]
