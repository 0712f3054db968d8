"""`tf.compat`: bytes and text, number types, and the name `tf.compat.v1`.

Beside these public names the room holds what lets programs of TensorFlow 1.x run as they are: the
import alias (`alias.py`) with its table of private modules. Nothing here computes.
"""

import contextlib
import datetime
import numbers
import os

import numpy as np

from headrace.compat import v1
from headrace.core.tensor_shape import dimension_at_index, dimension_value

bytes_or_text_types = (bytes, str)
integral_types = (numbers.Integral, np.integer)
real_types = (numbers.Real, np.integer, np.floating)
complex_types = (numbers.Complex, np.number)

# TensorFlow 1.15's own day: changes due on it or later are not in effect.
_horizon = datetime.date(2019, 8, 21)


def as_bytes(bytes_or_text, encoding="utf-8"):
    """Returns `bytes_or_text` as bytes. Raises TypeError: it is neither."""
    if isinstance(bytes_or_text, str):
        return bytes_or_text.encode(encoding)
    if isinstance(bytes_or_text, bytes | bytearray):
        return bytes(bytes_or_text)
    raise TypeError(f"Expected binary or unicode string, got {bytes_or_text!r}")


def as_text(bytes_or_text, encoding="utf-8"):
    """Returns `bytes_or_text` as str. Raises TypeError: it is neither."""
    if isinstance(bytes_or_text, bytes):
        return bytes_or_text.decode(encoding)
    if isinstance(bytes_or_text, str):
        return bytes_or_text
    raise TypeError(f"Expected binary or unicode string, got {bytes_or_text!r}")


as_str = as_text


def as_str_any(value):
    """Returns `str(value)`, bytes being decoded."""
    return as_str(value) if isinstance(value, bytes) else str(value)


def path_to_str(path):
    """Returns a path-like object as str, anything else as it is."""
    return as_str_any(os.fspath(path)) if hasattr(path, "__fspath__") else path


def forward_compatible(year, month, day):
    """Whether a change that was due on that day is in effect: it is where the day lies before."""
    return _horizon > datetime.date(year, month, day)


@contextlib.contextmanager
def forward_compatibility_horizon(year, month, day):
    """Context in which `forward_compatible` answers as if the given day were the horizon."""
    global _horizon
    before, _horizon = _horizon, datetime.date(year, month, day)
    try:
        yield
    finally:
        _horizon = before
