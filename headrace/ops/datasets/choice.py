"""Datasets that leave elements out, or choose the dataset of each; records written; waiting."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from headrace.core import errors
from headrace.graph.op_def import Effect, define
from headrace.io.tf_record import TFRecordWriter
from headrace.lowering import context as running
from headrace.ops.datasets.dataset import (
    TYPES,
    Dataset,
    GetNext,
    IteratorContext,
    as_array,
    dataset_of,
    define_dataset,
    scalar_argument,
)


class _Unique(Dataset):
    """Each value once. TensorFlow takes integers and strings, scalars as well as others."""

    def iterate(self, context: IteratorContext, prefix: str) -> GetNext:
        source = self.source.start(context, prefix)
        seen: set[Any] = set()

        def get_next():
            while (element := source()) is not None:
                array = as_array(element[0])
                key = (array.shape, tuple(array.reshape(-1).tolist()))
                if key not in seen:
                    seen.add(key)
                    return element
            return None

        return get_next


def _unique_dataset(op, source):
    return _Unique(op, dataset_of(op, source))


class _IgnoreErrors(Dataset):
    """The elements that come about without an error."""

    def iterate(self, context: IteratorContext, prefix: str) -> GetNext:
        source = self.source.start(context, prefix)

        def get_next():
            while True:
                try:
                    return source()
                except errors.CancelledError:
                    raise
                except errors.OpError:
                    context.check()

        return get_next


def _ignore_errors_dataset(op, source):
    return _IgnoreErrors(op, dataset_of(op, source))


for _prefix in ("", "Experimental"):
    define_dataset(f"{_prefix}UniqueDataset", "input_dataset: variant", TYPES)(_unique_dataset)
    define_dataset(f"{_prefix}IgnoreErrorsDataset", "input_dataset: variant", TYPES)(
        _ignore_errors_dataset
    )


class _Directed(Dataset):
    """The first input says of which of the others the next element is; those that have ended are passed over."""

    def iterate(self, context: IteratorContext, prefix: str) -> GetNext:
        selector = self.inputs[0].start(context, f"{prefix}.selector")
        sources: list[GetNext | None] = [
            d.start(context, f"{prefix}[{i}]") for i, d in enumerate(self.inputs[1:])
        ]

        def get_next():
            while any(sources):
                chosen = selector()
                if chosen is None:
                    return None
                number = int(np.asarray(chosen[0]))
                if not 0 <= number < len(sources):
                    raise self.op.invalid(
                        f"Selector index out of range: {number} >= {len(sources)}"
                    )
                source = sources[number]
                if source is not None:
                    element = source()
                    if element is not None:
                        return element
                    sources[number] = None
            return None

        return get_next


def _directed_interleave_dataset(op, selector, inputs):
    return _Directed(op, dataset_of(op, selector), *[dataset_of(op, i) for i in inputs])


for _prefix in ("", "Experimental"):
    define_dataset(
        f"{_prefix}DirectedInterleaveDataset",
        "selector_input_dataset: variant, data_input_datasets: N*variant",
        f"{TYPES}, N: int >= 1",
    )(_directed_interleave_dataset)


class _Sleep(Dataset):
    def __init__(self, op, source, microseconds):
        super().__init__(op, source)
        self._seconds = scalar_argument(op, microseconds, "sleep_microseconds") / 1e6

    def iterate(self, context: IteratorContext, prefix: str) -> GetNext:
        source = self.source.start(context, prefix)

        def get_next():
            time.sleep(self._seconds)
            return source()

        return get_next

    def cardinality(self) -> int:
        return self.source.cardinality()


def _sleep_dataset(op, source, microseconds):
    return _Sleep(op, dataset_of(op, source), microseconds)


for _prefix in ("", "Experimental"):
    define_dataset(
        f"{_prefix}SleepDataset", "input_dataset: variant, sleep_microseconds: int64", TYPES
    )(_sleep_dataset)


def _write(op: Any, dataset: Dataset, path: str, compression: str) -> None:
    context = IteratorContext()
    try:
        following = dataset.start(context, "ToTFRecord")
        with TFRecordWriter(path, compression) as writer:
            while (element := following()) is not None:
                writer.write(bytes(as_array(element[0]).item()))
    finally:
        context.cancel()


def _to_tf_record_host(op, source, filename, compression):
    path = scalar_argument(op, filename, "filename")
    compression = scalar_argument(op, compression, "compression_type")
    names = [v.decode() if isinstance(v, bytes) else v for v in (path, compression)]
    running.call_out(_write, op, dataset_of(op, source), *names)
    return ()


def _no_outputs(op, *inputs):
    return []


for _name in ("DatasetToTFRecord", "ExperimentalDatasetToTFRecord"):
    _definition = define(
        _name,
        "input_dataset: variant, filename: string, compression_type: string ->",
        effects=Effect.STATEFUL,
        host_only=True,
        waits=True,
    )
    _definition.shape(_no_outputs)
    _definition.host(_to_tf_record_host)
    _definition.not_differentiable()
