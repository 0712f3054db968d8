"""`tensorflow.python.framework.function`: functions of the graph with declared types."""

from headrace.api.defun import (
    Declare,
    Defun,
    from_library,
    get_extra_args,
    get_extra_inputs,
    get_extra_vars,
)

__all__ = [
    "Declare",
    "Defun",
    "from_library",
    "get_extra_args",
    "get_extra_inputs",
    "get_extra_vars",
]
