"""The names of `tf.io.gfile`: the functions of `file_io` with TensorFlow 2.x argument names."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from headrace.core import errors
from headrace.io import file_io
from headrace.io.file_io import FileStatistics
from headrace.io.gfile import GFile

__all__ = [
    "GFile",
    "copy",
    "exists",
    "glob",
    "isdir",
    "listdir",
    "makedirs",
    "mkdir",
    "remove",
    "rename",
    "rmtree",
    "stat",
    "walk",
]


def copy(src: str, dst: str, overwrite: bool = False) -> None:
    """Copies a file.  Raises AlreadyExistsError: `dst` exists and overwrite is false."""
    file_io.copy(src, dst, overwrite)


def exists(path: str) -> bool:
    """Returns whether there is a file or a directory of that name."""
    return file_io.file_exists(path)


def glob(pattern: str | Iterable[str]) -> list[str]:
    """Returns the files that match a pattern, or any of several.  Raises NotFoundError."""
    return file_io.get_matching_files(pattern)


def isdir(path: str) -> bool:
    """Returns whether there is a directory of that name."""
    return file_io.is_directory(path)


def listdir(path: str) -> list[str]:
    """Returns the names in a directory, in any order.  Raises NotFoundError."""
    return file_io.list_directory(path)


def makedirs(path: str) -> None:
    """Makes a directory and those above it, as far as they are missing."""
    file_io.recursive_create_dir(path)


def mkdir(path: str) -> None:
    """Makes a directory, if there is none of that name; its parent must exist."""
    file_io.create_dir(path)


def remove(path: str) -> None:
    """Deletes a file.  Raises NotFoundError; FailedPreconditionError: a directory."""
    file_io.delete_file(path)


def rename(src: str, dst: str, overwrite: bool = False) -> None:
    """Renames a file or directory.  Raises AlreadyExistsError: `dst` exists, no overwrite."""
    file_io.rename(src, dst, overwrite)


def rmtree(path: str) -> None:
    """Deletes a directory and everything in it.  Raises NotFoundError."""
    file_io.delete_recursively(path)


def stat(path: str) -> FileStatistics:
    """Returns length, time of change and kind of a file or directory.  Raises NotFoundError."""
    return file_io.stat(path)


def walk(
    top: str, topdown: bool = True, onerror: Callable[[errors.OpError], object] | None = None
) -> Iterator[tuple[str, list[str], list[str]]]:
    """Yields (directory, its directories, its files) for `top` and every directory below.

    topdown: a directory before what is in it.  onerror: called with an error in listing one.
    """
    return file_io.walk_with_errors(top, topdown, onerror)
