"""What a failing run shows: the error, the line of the program that called `run`, and nothing of the inside.

HEADRACE_FULL_TRACEBACK=1 in the environment leaves every frame in place.
"""

from __future__ import annotations

import os
from types import TracebackType

import jax

from headrace.core import errors
from headrace.core.site import PACKAGE_PREFIX
from headrace.runtime.late_runs import LateFailure

_KEEP_ALL = os.environ.get("HEADRACE_FULL_TRACEBACK", "") not in ("", "0")
_SESSION = os.path.dirname(os.path.abspath(__file__)) + os.sep
_HIDDEN = (PACKAGE_PREFIX, os.path.dirname(os.path.abspath(jax.__file__)) + os.sep)
_CODES = {name: code for name, code in vars(errors).items() if isinstance(code, int)}


def shortened(error: Exception) -> Exception | None:
    """`error` as it leaves `Session.run`: without our frames, and without a chain that says nothing new.

    An error of XLA becomes the OpError of its code. None: an error that should not happen, which keeps every frame.
    """
    if isinstance(error, LateFailure):
        return _of_the_run(error)
    if _KEEP_ALL:
        return None
    if isinstance(error, jax.errors.JaxRuntimeError):
        code, _, text = str(error).partition(": ")
        error = errors.make_error(None, None, text or code, _CODES.get(code, errors.INTERNAL))
    elif not isinstance(error, errors.OpError) and not _raised_on_purpose(error):
        return None
    cause = error.__cause__
    if cause is not None:
        # An exception of the user's own code (a py_func) is the heart of the matter.
        trace = _from_the_user(cause.__traceback__)
        error.__cause__ = None if trace is None else cause.with_traceback(trace)
    if hasattr(error, "__notes__"):
        error.__notes__ = [n for n in error.__notes__ if "JAX" not in n and "jax" not in n]
    return error.with_traceback(None)


def _of_the_run(failure: LateFailure) -> Exception:
    """The error of a run that had returned already: what it would have raised, with a word on which run that was."""
    error = failure.error
    short = shortened(error) if isinstance(error, Exception) else None
    place = (
        f"  in the run of {failure.name} at {failure.site}, which had returned before it was done"
    )
    if isinstance(short, errors.OpError):
        text = f"{short.message}\n{place}"
        return errors.make_error(short.node_def, short.op, text, short.error_code)
    found = errors.InternalError(None, None, f"{type(error).__name__}: {error}\n{place}")
    found.__cause__ = error
    return found


def _raised_on_purpose(error: Exception) -> bool:
    """Whether fetches or feeds were refused, as opposed to a mistake of ours."""
    trace = error.__traceback__
    if trace is None:
        return True
    while trace.tb_next is not None:
        trace = trace.tb_next
    place = trace.tb_frame.f_code.co_filename
    return place.startswith(_SESSION) and isinstance(error, (TypeError, ValueError, RuntimeError))


def _from_the_user(trace: TracebackType | None) -> TracebackType | None:
    """The traceback from its first frame in the user's files on; None where it has none."""
    while trace is not None and trace.tb_frame.f_code.co_filename.startswith(_HIDDEN):
        trace = trace.tb_next
    return trace
