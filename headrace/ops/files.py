"""Whole files: ReadFile, WriteFile, MatchingFiles."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import Any

import numpy as np

from headrace.core import errors
from headrace.graph import shapes
from headrace.graph.op_def import Effect, define
from headrace.io import file_io


@contextlib.contextmanager
def errors_of(op: Any) -> Iterator[None]:
    """Adds the operation to the errors that the file formats raise inside the block."""
    try:
        yield
    except errors.OpError as error:
        if error.op is not None:
            raise
        raise type(error)(None, op, f"{op.type} op {op.name!r}: {error.message}") from error


# ---- ReadFile

read_file = define("ReadFile", "filename: string -> contents: string", host_only=True)


@read_file.shape
def _read_file_shape(op, filename):
    shapes.with_rank(op, filename, 0, "filename")
    return ()


@read_file.host
def _read_file_host(op, filename):
    with errors_of(op):
        return np.array(
            file_io.read_file_to_string(filename.item(), binary_mode=True), dtype=object
        )


read_file.not_differentiable()

# ---- WriteFile

write_file = define(
    "WriteFile", "filename: string, contents: string ->", effects=Effect.STATEFUL, host_only=True
)


@write_file.shape
def _write_file_shape(op, filename, contents):
    shapes.with_rank(op, filename, 0, "filename")
    shapes.with_rank(op, contents, 0, "contents")


@write_file.host
def _write_file_host(op, filename, contents):
    path = os.fsdecode(filename.item())
    with errors_of(op):
        if os.path.dirname(path):
            file_io.recursive_create_dir(os.path.dirname(path))
        file_io.write_string_to_file(path, contents.item())
    return ()


write_file.not_differentiable()

# ---- MatchingFiles

matching_files = define("MatchingFiles", "pattern: string -> filenames: string", host_only=True)


@matching_files.shape
def _matching_files_shape(op, pattern):
    if pattern is not None and len(pattern) > 1:
        raise op.error(f"pattern must be a scalar or vector, but has shape {shapes.text(pattern)}.")
    return (None,)


@matching_files.host
def _matching_files_host(op, pattern):
    with errors_of(op):
        names = file_io.get_matching_files(pattern.reshape(-1).tolist())
    return np.array([os.fsencode(name) for name in sorted(names)], dtype=object)


matching_files.not_differentiable()
