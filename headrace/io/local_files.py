"""Paths on the local machine, their errors, and files that appear whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import secrets
import threading
from collections.abc import Callable, Iterator

from headrace.core import errors

_SCHEME = re.compile(r"^([A-Za-z][A-Za-z0-9.+-]*)://")

# Linux moves at most about 2 GiB in one call; smaller pieces also let other threads in.
_CHUNK = 1 << 26

# So much is worth a thread that puts it on disk while more is written.
_SYNCED_EARLY = 1 << 26

_ERRORS_BY_ERRNO: dict[int, Callable[[None, None, str], errors.OpError]] = {}
for _error_class, _numbers in (
    (
        errors.InvalidArgumentError,
        "EINVAL ENAMETOOLONG E2BIG EDESTADDRREQ EDOM EFAULT EILSEQ ENOTTY ESPIPE",
    ),
    (errors.NotFoundError, "ENOENT ENODEV ENXIO ESRCH"),
    (errors.AlreadyExistsError, "EEXIST EALREADY"),
    (errors.PermissionDeniedError, "EPERM EACCES EROFS"),
    (
        errors.FailedPreconditionError,
        "ENOTEMPTY EISDIR ENOTDIR EBADF EBUSY EPIPE ETXTBSY ENOTBLK",
    ),
    (errors.ResourceExhaustedError, "ENOSPC EDQUOT EMFILE ENFILE EMLINK ENOBUFS ENOMEM"),
    (errors.OutOfRangeError, "EFBIG EOVERFLOW ERANGE"),
    (errors.UnimplementedError, "ENOSYS ENOTSUP EXDEV"),
    (errors.UnavailableError, "EAGAIN EINTR ECONNREFUSED"),
    (errors.DeadlineExceededError, "ETIMEDOUT ETIME"),
):
    for _name in _numbers.split():
        if hasattr(errno, _name):
            _ERRORS_BY_ERRNO[getattr(errno, _name)] = _error_class


def local_path(path: str | bytes | os.PathLike) -> str:
    """Returns `path` as a plain path string, without a `file://` prefix.

    Raises UnimplementedError: a scheme other than `file`.
    """
    text = os.fsdecode(path)
    match = _SCHEME.match(text)
    if match is None:
        return text
    if match.group(1) != "file":
        raise errors.UnimplementedError(
            None,
            None,
            f"File system scheme '{match.group(1)}' not implemented (file: '{text}'); "
            "only local paths and file:// are.",
        )
    # What stands between the slashes is a host; on the local machine it has no meaning.
    rest = text[match.end() :]
    slash = rest.find("/")
    return rest[slash:] if slash >= 0 else ""


def from_os_error(error: OSError, path: str) -> errors.OpError:
    """Returns the `tf.errors` exception that stands for `error` on `path`."""
    error_class = _ERRORS_BY_ERRNO.get(error.errno or 0, errors.UnknownError)
    return error_class(None, None, f"{path}; {error.strerror or error}")


@contextlib.contextmanager
def os_errors_as_op_errors(path: str) -> Iterator[None]:
    """Raises `tf.errors` exceptions in place of the `OSError`s of its block."""
    try:
        yield
    except OSError as error:
        raise from_os_error(error, path) from error


def data_loss(path: str, where: str, what: str) -> errors.DataLossError:
    """Returns a DataLossError that says what is wrong, where, and in which file."""
    return errors.DataLossError(None, None, f"{what} ({where} of {path})")


def fsync_directory(directory: str) -> None:
    """Makes the names in `directory` durable, where the file system knows how to."""
    descriptor = os.open(directory or ".", os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        # Some network file systems refuse to sync a directory; their renames are synchronous.
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EBADF):
            raise
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def directory_lock(directory: str) -> Iterator[None]:
    """Lets one process and thread at a time into the block, of those that lock `directory`.

    The lock goes with its holder, however that ends. Where the file system has no locks, it is none.
    """
    descriptor = os.open(directory or ".", os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


class _EarlySync:
    """Puts what a file has so far on disk, in another thread, while more is written: the last `fsync` then finds less to do."""

    def __init__(self, descriptor: int) -> None:
        self._error: OSError | None = None
        self._thread = threading.Thread(target=self._run, args=(descriptor,), name="file sync")
        self._thread.start()

    def _run(self, descriptor: int) -> None:
        try:
            os.fsync(descriptor)
        except OSError as error:
            # The system tells of a lost page once: a later `fsync` would find nothing wrong.
            self._error = error

    @property
    def runs(self) -> bool:
        return self._thread.is_alive()

    def finish(self) -> None:
        """Waits for the thread. Raises OSError: what was written could not be put on disk."""
        self._thread.join()
        if self._error is not None:
            raise self._error


class AtomicFile:
    """A file written under a temporary name beside its own, then renamed into place.

    Used as a context manager, it commits when the block ends and leaves nothing when it raises.
    """

    def __init__(self, path: str):
        self.path = path
        # The name that TensorFlow gives to unfinished checkpoint files, so that the same
        # clean-up scripts find ours.
        self.temporary_path = f"{path}.tempstate{secrets.randbits(64)}"
        with os_errors_as_op_errors(path):
            self._file = open(self.temporary_path, "xb", buffering=1 << 20)
        self._state = "open"
        self._unsynced = 0
        self._early: _EarlySync | None = None

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Appends `data`."""
        with os_errors_as_op_errors(self.temporary_path):
            self._file.write(data)
            self._unsynced += len(data)
            if self._unsynced >= _SYNCED_EARLY and (self._early is None or not self._early.runs):
                if self._early is not None:
                    self._early.finish()
                self._early = _EarlySync(self._file.fileno())
                self._unsynced = 0

    def sync(self) -> None:
        """Puts the content on disk and closes the file, still under its temporary name."""
        if self._state != "open":
            return
        with os_errors_as_op_errors(self.temporary_path):
            self._file.flush()
            if self._early is not None:
                self._early.finish()
            os.fsync(self._file.fileno())
            self._file.close()
        self._state = "synced"

    def commit(self) -> None:
        """Puts the file in its place: `path` is from now on, and after a crash, the new one."""
        self.sync()
        with os_errors_as_op_errors(self.path):
            os.replace(self.temporary_path, self.path)
            self._state = "committed"
            fsync_directory(os.path.dirname(self.path))

    def release(self) -> None:
        """Leaves the synced temporary file to the caller, who renames it."""
        self.sync()
        self._state = "released"

    def discard(self) -> None:
        """Removes the temporary file, if it is still there."""
        if self._state in ("open", "synced"):
            self._state = "discarded"
            with contextlib.suppress(OSError):
                if self._early is not None:
                    self._early.finish()  # it uses the file's descriptor
            with contextlib.suppress(OSError):
                self._file.close()
            with contextlib.suppress(OSError):
                os.unlink(self.temporary_path)

    def __enter__(self) -> AtomicFile:
        return self

    def __exit__(self, exception_type, exception, traceback) -> None:
        try:
            if exception_type is None:
                self.commit()
        finally:
            self.discard()


class RandomAccessFile:
    """A file open for reading at any offset; every read is checked against its length."""

    def __init__(self, path: str):
        self.path = path
        with os_errors_as_op_errors(path):
            self._descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
            self._status = os.fstat(self._descriptor)
        self.size = self._status.st_size

    def read(self, offset: int, length: int, where: str) -> bytes:
        """Returns exactly `length` bytes from `offset`.

        Raises DataLossError, before taking memory: the file does not reach that far.
        """
        self.check_range(offset, length, where)
        data = bytearray(length)
        self.read_into(offset, memoryview(data), where)
        # bytes, as the checksum library takes nothing else; small next to reading a disk.
        return bytes(data)

    def read_into(self, offset: int, view: memoryview, where: str) -> None:
        """Fills `view` (bytes) from `offset`.  Raises DataLossError: the file is too short."""
        self.check_range(offset, len(view), where)
        done = 0
        while done < len(view):
            with os_errors_as_op_errors(self.path):
                count = os.preadv(self._descriptor, [view[done : done + _CHUNK]], offset + done)
            if count == 0:
                raise data_loss(self.path, where, "the file became shorter while it was read")
            done += count

    def check_range(self, offset: int, length: int, where: str) -> None:
        """Raises DataLossError: `length` bytes from `offset` are not all inside the file."""
        if offset < 0 or length < 0 or offset + length > self.size:
            raise data_loss(
                self.path,
                where,
                f"truncated or altered file: needs bytes {offset} to {offset + length}, "
                f"but the file has {self.size}",
            )

    def is_still_at_its_path(self) -> bool:
        """Whether the path still names this very file, not a later one renamed over it."""
        try:
            now = os.stat(self.path)
        except OSError:
            return False
        return (now.st_dev, now.st_ino) == (self._status.st_dev, self._status.st_ino)

    def close(self) -> None:
        """Closes the file; a second time it does nothing."""
        if self._descriptor >= 0:
            descriptor, self._descriptor = self._descriptor, -1
            os.close(descriptor)

    def __del__(self):
        if getattr(self, "_descriptor", -1) >= 0:
            self.close()
