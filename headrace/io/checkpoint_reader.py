"""Reading a checkpoint of either format: what `tf.train.NewCheckpointReader` returns."""

from __future__ import annotations

import os

import numpy as np

from headrace.core import errors
from headrace.core.dtypes import DType
from headrace.io.checkpoint_v1 import TensorSliceReader
from headrace.io.file_io import get_matching_files
from headrace.io.local_files import local_path
from headrace.io.tensor_bundle import BundleReader, index_filename
from headrace.io.tensor_slice import TensorSlice


def open_checkpoint(pattern: str | bytes | os.PathLike) -> BundleReader | TensorSliceReader:
    """Opens a checkpoint: the V2 one of that prefix if there is one, else V1 files that match.

    Raises NotFoundError: neither exists.  DataLossError: a file is truncated or altered.
    """
    path = local_path(pattern)
    if os.path.exists(index_filename(path)):
        return BundleReader(path)
    return TensorSliceReader(path)


def checkpoint_exists(checkpoint_prefix: str | bytes | os.PathLike) -> bool:
    """Returns whether there is a V1 or V2 checkpoint of this prefix, which may be a pattern."""
    prefix = local_path(checkpoint_prefix)
    return any(
        os.path.exists(pattern) or _matches(pattern) for pattern in (index_filename(prefix), prefix)
    )


def _matches(pattern: str) -> bool:
    try:
        return bool(get_matching_files(pattern))
    except errors.OpError:
        return False


class CheckpointReader:
    """The tensors of a checkpoint, by name.

    Raises, from any method, DataLossError: a file is truncated or altered.
    """

    def __init__(self, filepattern: str | bytes | os.PathLike):
        """Opens the checkpoint.  Raises NotFoundError: there is none."""
        self._reader = open_checkpoint(filepattern)

    def get_variable_to_shape_map(self) -> dict[str, list[int]]:
        """Returns the full shape of every tensor."""
        return {n: list(self._reader.dtype_and_shape(n)[1]) for n in self._reader.keys()}

    def get_variable_to_dtype_map(self) -> dict[str, DType]:
        """Returns the type of every tensor."""
        return {n: self._reader.dtype_and_shape(n)[0] for n in self._reader.keys()}

    def has_tensor(self, tensor_str: str) -> bool:
        """Returns whether there is a tensor of that name."""
        return self._reader.contains(_as_text(tensor_str))

    def get_tensor(self, tensor_str: str):
        """Returns the value of a tensor; a string scalar as `bytes`.

        Raises NotFoundError: no tensor of that name.
        """
        array = self._reader.read(_as_text(tensor_str))
        return array.item() if array.dtype == np.object_ and not array.ndim else array

    def get_slice(self, tensor_str: str, tensor_slice: TensorSlice) -> np.ndarray:
        """Returns a slice of a tensor.  Raises NotFoundError; InternalError: it does not fit."""
        return self._reader.read_slice(_as_text(tensor_str), tensor_slice)

    def debug_string(self) -> bytes:
        """Returns a line for every tensor: name, type, shape, and the number of its slices."""
        lines = []
        for name in self._reader.keys():
            dtype, shape = self._reader.dtype_and_shape(name)
            line = f"{name} ({_enum_name(dtype)}) [{','.join(map(str, shape))}]"
            slices = len(self._reader.slices(name))
            lines.append(f"{line}, {slices} slices\n" if slices > 1 else f"{line}\n")
        return "".join(lines).encode("utf-8", "surrogateescape")

    def close(self) -> None:
        """Closes the files."""
        self._reader.close()


def _as_text(name: str | bytes) -> str:
    return name.decode("utf-8", "surrogateescape") if isinstance(name, bytes) else name


_ENUM_NAMES = {"float32": "FLOAT", "float64": "DOUBLE", "float16": "HALF"}


def _enum_name(dtype: DType) -> str:
    """Returns the name of the type in `types.proto`."""
    return "DT_" + _ENUM_NAMES.get(dtype.name, dtype.name.upper())
