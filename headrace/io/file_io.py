"""Files and directories by TensorFlow's names and errors, on local paths (plain or `file://`).

The functions take TensorFlow 1.x argument names; `gfile` and `gfile_v2` give them the two sets of
public names.
"""

from __future__ import annotations

import binascii
import contextlib
import dataclasses
import fnmatch
import os
import re
import shutil
import stat as stat_module
from collections.abc import Callable, Iterable, Iterator
from typing import Any, BinaryIO

from headrace.core import errors
from headrace.io.local_files import AtomicFile, local_path, os_errors_as_op_errors

_Path = str | bytes | os.PathLike
_MODES = ("r", "w", "a", "r+", "w+", "a+")
_READ_BUFFER = 512 * 1024


def _as_bytes(content: str | bytes) -> bytes:
    if isinstance(content, bytes | bytearray):
        return bytes(content)
    if isinstance(content, str):
        return content.encode()
    raise TypeError(f"Expected binary or unicode string, got {content!r}")


class FileIO:
    """A file that is opened when it is first read or written.

    Reading and writing have positions of their own: writes go to the end. Modes `w`, `w+`
    and (as in TensorFlow) `r+` empty the file at the first write; without a write, none is made.
    Without `b` in the mode, what is read is decoded as UTF-8; positions are bytes all the same.
    """

    def __init__(self, name: _Path, mode: str):
        """Raises InvalidArgumentError: a mode that is not r, w or a, with + or b."""
        self.__name = name
        self.__mode = mode
        self._binary = "b" in mode
        plain_mode = mode.replace("b", "")
        if plain_mode not in _MODES:
            raise errors.InvalidArgumentError(
                None, None, "mode is not 'r' or 'w' or 'a' or 'r+' or 'w+' or 'a+'"
            )
        self._may_read = plain_mode == "r" or "+" in plain_mode
        self._may_write = plain_mode != "r"
        self._reader: BinaryIO | None = None
        self._writer: BinaryIO | None = None

    @property
    def name(self) -> _Path:
        """The path, as it was given."""
        return self.__name

    @property
    def mode(self) -> str:
        """The mode, as it was given."""
        return self.__mode

    def _open_reader(self) -> BinaryIO:
        if self._reader is None:
            if not self._may_read:
                raise errors.PermissionDeniedError(None, None, "File isn't open for reading")
            path = local_path(self.__name)
            with os_errors_as_op_errors(path):
                self._reader = open(path, "rb", buffering=_READ_BUFFER)
        return self._reader

    def _open_writer(self) -> BinaryIO:
        if self._writer is None:
            if not self._may_write:
                raise errors.PermissionDeniedError(None, None, "File isn't open for writing")
            path = local_path(self.__name)
            with os_errors_as_op_errors(path):
                self._writer = open(path, "ab" if "a" in self.__mode else "wb")
        return self._writer

    def _result(self, data: bytes) -> Any:
        return data if self._binary else data.decode()

    def size(self) -> int:
        """Returns the size of the file in bytes."""
        return stat(self.__name).length

    def write(self, file_content: str | bytes) -> None:
        """Appends `file_content`; text is encoded as UTF-8."""
        writer = self._open_writer()
        with os_errors_as_op_errors(os.fsdecode(self.__name)):
            writer.write(_as_bytes(file_content))

    def read(self, n: int = -1) -> Any:
        """Returns the next `n` bytes, or all that is left."""
        reader = self._open_reader()
        with os_errors_as_op_errors(os.fsdecode(self.__name)):
            return self._result(reader.read(n))

    def seek(self, offset: int | None = None, whence: int = 0, position: int | None = None) -> None:
        """Moves the reading position to `offset` from start (0), here (1) or end (2).

        position: the older name of `offset`.
        Raises OutOfRangeError: past the end of the file.  InvalidArgumentError: before its start.
        """
        reader = self._open_reader()
        if offset is None and position is None:
            raise TypeError("seek(): offset argument required")
        if offset is not None and position is not None:
            raise TypeError("seek(): offset and position may not be set simultaneously.")
        target = offset if offset is not None else position
        assert target is not None
        if whence == 1:
            target += self.tell()
        elif whence == 2:
            target += self.size()
        elif whence != 0:
            raise errors.InvalidArgumentError(
                None, None, f"Invalid whence argument: {whence}. Valid values are 0, 1, or 2."
            )
        if target < 0:
            raise errors.InvalidArgumentError(
                None, None, f"Seeking to a negative position: {target}"
            )
        if target > self.size():
            raise errors.OutOfRangeError(None, None, "reached end of file")
        reader.seek(target)

    def readline(self) -> Any:
        """Returns the next line with its newline, without any carriage return; empty at the end."""
        reader = self._open_reader()
        with os_errors_as_op_errors(os.fsdecode(self.__name)):
            return self._result(reader.readline().replace(b"\r", b""))

    def readlines(self) -> list:
        """Returns the lines that are left."""
        return list(self)

    def tell(self) -> int:
        """Returns the reading position, or the writing one of a file that is only written."""
        return self._open_reader().tell() if self._may_read else self._open_writer().tell()

    def __enter__(self) -> FileIO:
        return self

    def __exit__(self, exception_type, exception, traceback) -> None:
        self.close()

    def __iter__(self) -> Iterator:
        return self

    def next(self) -> Any:
        """Returns the next line.  Raises StopIteration: there is none."""
        line = self.readline()
        if not line:
            raise StopIteration
        return line

    def __next__(self) -> Any:
        return self.next()

    def flush(self) -> None:
        """Hands what was written to the operating system."""
        if self._writer is not None:
            with os_errors_as_op_errors(os.fsdecode(self.__name)):
                self._writer.flush()

    def close(self) -> None:
        """Closes the file; using the object again opens it again."""
        reader, self._reader = self._reader, None
        writer, self._writer = self._writer, None
        if reader is not None:
            reader.close()
        if writer is not None:
            with os_errors_as_op_errors(os.fsdecode(self.__name)):
                writer.close()

    def seekable(self) -> bool:
        """True: `seek` moves the place of reading."""
        return True

    def __del__(self):
        for file in (getattr(self, "_reader", None), getattr(self, "_writer", None)):
            if file is not None:
                with contextlib.suppress(OSError):
                    file.close()


@dataclasses.dataclass(frozen=True, slots=True)
class FileStatistics:
    """What `stat` returns: length in bytes, time of change in nanoseconds, kind."""

    length: int
    mtime_nsec: int
    is_directory: bool


def file_exists(filename: _Path) -> bool:
    """Returns whether there is a file or a directory of that name."""
    return os.path.exists(local_path(filename))


def delete_file(filename: _Path) -> None:
    """Deletes a file.  Raises NotFoundError; FailedPreconditionError: a directory."""
    path = local_path(filename)
    with os_errors_as_op_errors(path):
        os.unlink(path)


def read_file_to_string(filename: _Path, binary_mode: bool = False) -> Any:
    """Returns the content of a file, as text or (binary_mode) as bytes."""
    with FileIO(filename, "rb" if binary_mode else "r") as file:
        return file.read()


def write_string_to_file(filename: _Path, file_content: str | bytes) -> None:
    """Makes `file_content` the content of a file."""
    with FileIO(filename, "w") as file:
        file.write(file_content)


def atomic_write(path: _Path, content: bytes) -> None:
    """Makes `content` the content of a file, durably, so that nobody ever sees a part of it."""
    with AtomicFile(local_path(path)) as file:
        file.write(content)


def atomic_write_string_to_file(
    filename: _Path, contents: str | bytes, overwrite: bool = True
) -> None:
    """As `atomic_write`.  Raises AlreadyExistsError: the file exists and overwrite is false."""
    with AtomicFile(local_path(filename)) as file:
        file.write(_as_bytes(contents))
        if not overwrite:
            _refuse_existing(filename)


def get_matching_files(filename: _Path | Iterable[_Path]) -> list[str]:
    """Returns the files that match a pattern, or any of several patterns.

    `*`, `?`, `[...]` and a backslash before them mean what they do in a shell, but that `*` matches
    leading dots; none matches a slash.
    Raises NotFoundError: the directory before the first wildcard does not exist.
    """
    patterns = [filename] if isinstance(filename, str | bytes | os.PathLike) else filename
    return [match for pattern in patterns for match in _glob(os.fsdecode(pattern))]


def _glob(pattern: str) -> list[str]:
    path = local_path(pattern)
    scheme = pattern[: len(pattern) - len(path)]
    wildcard = re.search(r"[*?\[\\]", path)
    fixed = path[: wildcard.start()] if wildcard else path
    directory = os.path.dirname(fixed)
    components = path[len(directory) :].lstrip("/").split("/")
    bases = [directory or "."]
    # TensorFlow's search lists the directory even for a pattern without a wildcard.
    with os_errors_as_op_errors(bases[0]):
        os.listdir(bases[0])
    for component in components:
        literal = re.sub(r"\\(.)", r"\1", component)
        expression = None
        if re.search(r"(?<!\\)[*?\[]", component):
            expression = re.compile(_translate(component))
        found = []
        for base in bases:
            if expression is None:
                names = (
                    [literal] if literal and os.path.lexists(os.path.join(base, literal)) else []
                )
            else:
                try:
                    names = [n for n in sorted(os.listdir(base)) if expression.fullmatch(n)]
                except OSError:
                    # Not a directory, or not one that we may list: nothing below it matches.
                    names = []
            found += [os.path.join(base, name) for name in names]
        bases = found
    return [scheme + base for base in bases]


def _translate(component: str) -> str:
    """Returns the regular expression of a shell pattern, in which backslash quotes."""
    pieces = re.split(r"(\\.)", component)
    quoted = (f"[{piece[1]}]" if piece[0] == "\\" and piece[1] in "*?[" else piece.lstrip("\\")
              if piece[:1] == "\\" else piece for piece in pieces if piece)  # fmt: skip
    return fnmatch.translate("".join(quoted))


def create_dir(dirname: _Path) -> None:
    """Makes a directory, if there is none of that name; its parent must exist."""
    path = local_path(dirname)
    with os_errors_as_op_errors(path), contextlib.suppress(FileExistsError):
        os.mkdir(path, 0o755)


def recursive_create_dir(dirname: _Path) -> None:
    """Makes a directory and those above it, as far as they are missing."""
    path = local_path(dirname)
    if path and not os.path.exists(path):
        with os_errors_as_op_errors(path):
            os.makedirs(path, exist_ok=True)


def _refuse_existing(path: _Path) -> None:
    if file_exists(path):
        raise errors.AlreadyExistsError(None, None, f"file already exists: {os.fsdecode(path)}")


def copy(oldpath: _Path, newpath: _Path, overwrite: bool = False) -> None:
    """Copies a file and its mode.

    Raises AlreadyExistsError: there is a `newpath`, and overwrite is false.
    """
    if not overwrite:
        _refuse_existing(newpath)
    source, target = local_path(oldpath), local_path(newpath)
    with os_errors_as_op_errors(source), contextlib.suppress(shutil.SameFileError):
        shutil.copyfile(source, target)
        shutil.copymode(source, target)


def rename(oldname: _Path, newname: _Path, overwrite: bool = False) -> None:
    """Renames or moves a file or a directory.

    Raises AlreadyExistsError: there is a `newname`, and overwrite is false.
    """
    if not overwrite:
        _refuse_existing(newname)
    source = local_path(oldname)
    with os_errors_as_op_errors(source):
        os.replace(source, local_path(newname))


def delete_recursively(dirname: _Path) -> None:
    """Deletes a directory and everything in it.  Raises NotFoundError."""
    path = local_path(dirname)
    with os_errors_as_op_errors(path):
        shutil.rmtree(path)


def is_directory(dirname: _Path) -> bool:
    """Returns whether there is a directory of that name."""
    return os.path.isdir(local_path(dirname))


def list_directory(dirname: _Path) -> list[str]:
    """Returns the names in a directory, in any order.  Raises NotFoundError."""
    if not is_directory(dirname):
        raise errors.NotFoundError(None, None, f"Could not find directory {os.fsdecode(dirname)}")
    path = local_path(dirname)
    with os_errors_as_op_errors(path):
        return os.listdir(path)


def walk(top: _Path, in_order: bool = True) -> Iterator[tuple[str, list[str], list[str]]]:
    """Yields (directory, its directories, its files) for `top` and every directory below.

    in_order: a directory before what is in it; else after.
    """
    return walk_with_errors(top, in_order, None)


def walk_with_errors(
    top: _Path, topdown: bool, onerror: Callable[[errors.OpError], Any] | None
) -> Iterator[tuple[str, list[str], list[str]]]:
    """As `walk`; `onerror` is called with what went wrong in listing a directory."""
    top = os.fsdecode(top)
    try:
        listing = list_directory(top)
    except errors.NotFoundError as error:
        if onerror is not None:
            onerror(error)
        return
    directories = [name for name in listing if is_directory(os.path.join(top, name))]
    files = [name for name in listing if name not in set(directories)]
    if topdown:
        yield top, directories, files
    for name in directories:
        yield from walk_with_errors(os.path.join(top, name), topdown, onerror)
    if not topdown:
        yield top, directories, files


def stat(filename: _Path) -> FileStatistics:
    """Returns length, time of change and kind of a file or directory.  Raises NotFoundError."""
    path = local_path(filename)
    with os_errors_as_op_errors(path):
        status = os.stat(path)
    return FileStatistics(status.st_size, status.st_mtime_ns, stat_module.S_ISDIR(status.st_mode))


def filecmp(filename_a: _Path, filename_b: _Path) -> bool:
    """Returns whether two files have the same size and checksum."""
    if stat(filename_a).length != stat(filename_b).length:
        return False
    return file_crc32(filename_a) == file_crc32(filename_b)


def file_crc32(filename: _Path, block_size: int = 16 * 1024 * 1024) -> str:
    """Returns the CRC-32 of a file's content, as hexadecimal text."""
    crc = 0
    with FileIO(filename, "rb") as file:
        while chunk := file.read(block_size):
            crc = binascii.crc32(chunk, crc)
    return hex(crc)
