"""Elements kept for later iterations: in memory, or in files of TensorFlow's format."""

from __future__ import annotations

import contextlib
import os
import time
from typing import Any

from headrace.core import errors
from headrace.io.bundle_reader import BundleReader
from headrace.io.bundle_writer import BundleWriter
from headrace.io.local_files import local_path, os_errors_as_op_errors
from headrace.ops.datasets.dataset import (
    TYPES,
    Dataset,
    Element,
    GetNext,
    IteratorContext,
    dataset_of,
    define_dataset,
    scalar_argument,
)

# How wide the number of an element is in its name, which decides the order in the file.
_NUMBER_WIDTH = 7


class _MemoryCache(Dataset):
    """Kept by the iterator: its first iteration to the end fills it."""

    def iterate(self, context: IteratorContext, prefix: str) -> GetNext:
        kept = context.share((prefix, "cache"), _Kept)
        source: GetNext | None = None if kept.is_whole else self.source.start(context, prefix)
        elements: list[Element] = kept.elements if kept.is_whole else []
        number = 0

        def get_next():
            nonlocal number
            if source is None:
                if number == len(elements):
                    return None
                number += 1
                return elements[number - 1]
            element = source()
            if element is not None:
                elements.append(element)
            elif not kept.is_whole:
                kept.elements, kept.is_whole = elements, True
            return element

        return get_next

    def cardinality(self) -> int:
        return self.source.cardinality()


class _Kept:
    def __init__(self) -> None:
        self.elements: list[Element] = []
        self.is_whole = False


class _FileCache(Dataset):
    """Kept in a file, which later processes read too."""

    def __init__(self, op: Any, source: Dataset, filename: str) -> None:
        super().__init__(op, source)
        self._path = local_path(filename)
        self._count = len(source.types)
        self._width = len(str(max(0, self._count - 1)))

    def _name(self, number: int, component: int) -> str:
        return f"{number:{_NUMBER_WIDTH}d}_{component:{self._width}d}"

    def iterate(self, context: IteratorContext, prefix: str) -> GetNext:
        if os.path.exists(f"{self._path}.index"):
            return self._read()
        return self._write(context, prefix)

    def _read(self) -> GetNext:
        reader = BundleReader(self._path)
        number = 0

        def get_next():
            nonlocal number
            if not reader.contains(self._name(number, 0)):
                return None
            number += 1
            return tuple(reader.read(self._name(number - 1, i)) for i in range(self._count))

        return get_next

    def _write(self, context: IteratorContext, prefix: str) -> GetNext:
        source = self.source.start(context, prefix)
        writer: BundleWriter | None = None
        lock = f"{self._path}.lockfile"
        number = 0
        ended = False

        def begin() -> BundleWriter:
            with os_errors_as_op_errors(lock):
                try:
                    handle = os.open(lock, os.O_CREAT | os.O_EXCL | os.O_WRONLY)
                except FileExistsError:
                    raise errors.AlreadyExistsError(
                        None,
                        self.op,
                        "There appears to be a concurrent caching iterator running - cache lockfile already exists "
                        f"({lock!r}). If you are sure no other running TF computations are using this cache prefix, "
                        "delete the lockfile and re-initialize the iterator.",
                    ) from None
                with os.fdopen(handle, "w") as file:
                    file.write(f"Created at: {int(time.time())}")
            context.when_cancelled(remove_lock)
            return BundleWriter(self._path)

        def remove_lock() -> None:
            if writer is not None and not ended:
                writer.discard()
            with contextlib.suppress(OSError):
                os.remove(lock)

        def get_next():
            nonlocal writer, number, ended
            if ended:
                return None
            if writer is None:
                writer = begin()
            element = source()
            if element is None:
                ended = True
                writer.finish()
                remove_lock()
                return None
            for i, component in enumerate(element):
                writer.add(self._name(number, i), component)
            number += 1
            return element

        return get_next

    def cardinality(self) -> int:
        return self.source.cardinality()


@define_dataset("CacheDataset", "input_dataset: variant, filename: string", TYPES)
def _cache_dataset(op, source, filename):
    name = scalar_argument(op, filename, "filename")
    name = name.decode() if isinstance(name, bytes) else name
    source = dataset_of(op, source)
    return _FileCache(op, source, name) if name else _MemoryCache(op, source)
