"""The errors that running a graph can raise: one class per canonical error code.

A failure found while the graph is built is a plain ValueError or TypeError; the classes here are
for what happens while operations run, and carry the operation.
"""

from __future__ import annotations

import warnings
from typing import Any

OK = 0
CANCELLED = 1
UNKNOWN = 2
INVALID_ARGUMENT = 3
DEADLINE_EXCEEDED = 4
NOT_FOUND = 5
ALREADY_EXISTS = 6
PERMISSION_DENIED = 7
RESOURCE_EXHAUSTED = 8
FAILED_PRECONDITION = 9
ABORTED = 10
OUT_OF_RANGE = 11
UNIMPLEMENTED = 12
INTERNAL = 13
UNAVAILABLE = 14
DATA_LOSS = 15
UNAUTHENTICATED = 16


class InaccessibleTensorError(ValueError):
    """A tensor was used outside the graph or function that it belongs to."""


class OperatorNotAllowedInGraphError(TypeError):
    """A tensor without a value yet was used where Python needs one, as in `if` or `for`."""


def creation_site(op: Any) -> str:
    """Returns the line of text that says where `op` was made, or "" where that is not known.

    op: anything; what has a method `site` giving an object with `filename`, `lineno` and
    `function` (or None) has a creation site.
    """
    site = getattr(op, "site", None)
    site = site() if callable(site) else site
    if site is None:
        return ""
    return f"  defined at {site.filename}:{site.lineno}, in {site.function}"


class OpError(Exception):
    """What every error of a running graph derives from.

    node_def: the `NodeDef` of the operation that failed, or None.
    op: the operation, or None where it is not known (an error of another process, or of a node
    that a pass added).
    message: what went wrong.  error_code: one of the codes of this module.
    """

    def __init__(self, node_def: Any, op: Any, message: str, error_code: int) -> None:
        super().__init__()
        self._node_def = node_def
        self._op = op
        self._message = message
        self._error_code = error_code

    @property
    def node_def(self) -> Any:
        """The `NodeDef` of the operation that failed, or None."""
        return self._node_def

    @property
    def op(self) -> Any:
        """The operation that failed, or None."""
        return self._op

    @property
    def message(self) -> str:
        """What went wrong."""
        return self._message

    @property
    def error_code(self) -> int:
        """The canonical error code."""
        return self._error_code

    def __str__(self) -> str:
        site = "" if self._op is None else creation_site(self._op)
        return f"{self._message}\n{site}" if site else str(self._message)

    def __reduce__(self) -> Any:
        # The operation stays behind: it would take its whole graph along.
        return _rebuild, (type(self), self._node_def, self._message, self._error_code)


def _rebuild(cls: type[OpError], node_def: Any, message: str, error_code: int) -> OpError:
    error = cls.__new__(cls)
    OpError.__init__(error, node_def, None, message, error_code)
    return error


class CancelledError(OpError):
    """The step was stopped before it was done, as when a session or a queue is closed."""

    def __init__(self, node_def: Any, op: Any, message: str) -> None:
        super().__init__(node_def, op, message, CANCELLED)


class UnknownError(OpError):
    """An error without a better code, such as an exception in a Python function."""

    def __init__(self, node_def: Any, op: Any, message: str, error_code: int = UNKNOWN) -> None:
        super().__init__(node_def, op, message, error_code)


class InvalidArgumentError(OpError):
    """An operation was given a value that it can never accept."""

    def __init__(self, node_def: Any, op: Any, message: str) -> None:
        super().__init__(node_def, op, message, INVALID_ARGUMENT)


class DeadlineExceededError(OpError):
    """The time allowed ran out first."""

    def __init__(self, node_def: Any, op: Any, message: str) -> None:
        super().__init__(node_def, op, message, DEADLINE_EXCEEDED)


class NotFoundError(OpError):
    """Something asked for, such as a file or a variable, does not exist."""

    def __init__(self, node_def: Any, op: Any, message: str) -> None:
        super().__init__(node_def, op, message, NOT_FOUND)


class AlreadyExistsError(OpError):
    """Something to be made exists already."""

    def __init__(self, node_def: Any, op: Any, message: str) -> None:
        super().__init__(node_def, op, message, ALREADY_EXISTS)


class PermissionDeniedError(OpError):
    """The caller may not do this, as when a file is not readable."""

    def __init__(self, node_def: Any, op: Any, message: str) -> None:
        super().__init__(node_def, op, message, PERMISSION_DENIED)


class UnauthenticatedError(OpError):
    """The caller did not prove who it is."""

    def __init__(self, node_def: Any, op: Any, message: str) -> None:
        super().__init__(node_def, op, message, UNAUTHENTICATED)


class ResourceExhaustedError(OpError):
    """Memory, disk or another resource ran out."""

    def __init__(self, node_def: Any, op: Any, message: str) -> None:
        super().__init__(node_def, op, message, RESOURCE_EXHAUSTED)


class FailedPreconditionError(OpError):
    """The state is not ready for this operation, as when a variable has no value yet."""

    def __init__(self, node_def: Any, op: Any, message: str) -> None:
        super().__init__(node_def, op, message, FAILED_PRECONDITION)


class AbortedError(OpError):
    """The operation lost a race with another and may be tried again."""

    def __init__(self, node_def: Any, op: Any, message: str) -> None:
        super().__init__(node_def, op, message, ABORTED)


class OutOfRangeError(OpError):
    """There is nothing more to read: the end of a file, a queue or a dataset."""

    def __init__(self, node_def: Any, op: Any, message: str) -> None:
        super().__init__(node_def, op, message, OUT_OF_RANGE)


class UnimplementedError(OpError):
    """The operation cannot do this for such inputs or on this device."""

    def __init__(self, node_def: Any, op: Any, message: str) -> None:
        super().__init__(node_def, op, message, UNIMPLEMENTED)


class InternalError(OpError):
    """Something that must hold inside the system does not."""

    def __init__(self, node_def: Any, op: Any, message: str) -> None:
        super().__init__(node_def, op, message, INTERNAL)


class UnavailableError(OpError):
    """A service cannot be reached now, such as a worker that is down."""

    def __init__(self, node_def: Any, op: Any, message: str) -> None:
        super().__init__(node_def, op, message, UNAVAILABLE)


class DataLossError(OpError):
    """Stored data is damaged or cut short."""

    def __init__(self, node_def: Any, op: Any, message: str) -> None:
        super().__init__(node_def, op, message, DATA_LOSS)


_CODE_TO_CLASS: dict[int, type[OpError]] = {
    CANCELLED: CancelledError,
    UNKNOWN: UnknownError,
    INVALID_ARGUMENT: InvalidArgumentError,
    DEADLINE_EXCEEDED: DeadlineExceededError,
    NOT_FOUND: NotFoundError,
    ALREADY_EXISTS: AlreadyExistsError,
    PERMISSION_DENIED: PermissionDeniedError,
    RESOURCE_EXHAUSTED: ResourceExhaustedError,
    FAILED_PRECONDITION: FailedPreconditionError,
    ABORTED: AbortedError,
    OUT_OF_RANGE: OutOfRangeError,
    UNIMPLEMENTED: UnimplementedError,
    INTERNAL: InternalError,
    UNAVAILABLE: UnavailableError,
    DATA_LOSS: DataLossError,
    UNAUTHENTICATED: UnauthenticatedError,
}
_CLASS_TO_CODE = {cls: code for code, cls in _CODE_TO_CLASS.items()}


def exception_type_from_error_code(error_code: int) -> type[OpError]:
    """Returns the class of the errors with this code; raises KeyError if there is none."""
    return _CODE_TO_CLASS[error_code]


def error_code_from_exception_type(cls: type[OpError]) -> Any:
    """Returns the code of the errors of class `cls`.

    For any other class it warns and, as TensorFlow does, returns an UnknownError.
    """
    code = _CLASS_TO_CODE.get(cls)
    if code is not None:
        return code
    warnings.warn("Unknown class exception", stacklevel=2)
    return UnknownError(None, None, "Unknown class exception", None)  # pyright: ignore[reportArgumentType]


def make_error(node_def: Any, op: Any, message: str, error_code: int) -> OpError:
    """Returns an error of the class for `error_code`, of UnknownError for unknown codes."""
    cls = _CODE_TO_CLASS.get(error_code)
    if cls is not None:
        return cls(node_def, op, message)  # pyright: ignore[reportCallIssue]
    warnings.warn(f"Unknown error code: {error_code}", stacklevel=2)
    return UnknownError(node_def, op, message, error_code)
