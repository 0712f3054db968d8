"""Kernels in C++ where the field's own library (oneDNN) beats XLA's on a CPU, called through XLA's FFI.

All of it is optional. `build` compiles the sources in `src/` when an environment is made, where there is a compiler and
the library; `library` loads the result when the first operation could use it. Without it, or for shapes at which XLA is
as fast, the functions here lower to XLA's own operations.
"""

from headrace.native.convolution import Geometry, convolve, filter_gradient, input_gradient
from headrace.native.empty import empty
from headrace.native.formulas import fused
from headrace.native.library import available, without
from headrace.native.loops import HostLoop, NotCovered, in_one_call, repeat
from headrace.native.matmul import dot, host_dot
from headrace.native.random import random_numbers, truncated_numbers

__all__ = [
    "Geometry",
    "HostLoop",
    "NotCovered",
    "available",
    "convolve",
    "dot",
    "empty",
    "filter_gradient",
    "fused",
    "host_dot",
    "in_one_call",
    "input_gradient",
    "random_numbers",
    "repeat",
    "truncated_numbers",
    "without",
]
