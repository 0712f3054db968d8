"""Finds and loads the compiled kernels."""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import json
import logging
import os
import platform
import threading
from collections.abc import Iterator
from pathlib import Path

import jax
import jaxlib

SOURCES = Path(__file__).parent / "src"

# Each is a function of the library and, under the same name, a target that XLA calls.
TARGETS = (
    "headrace_bundle",
    "headrace_convolution",
    "headrace_dot",
    "headrace_empty",
    "headrace_finished_convolution",
    "headrace_half_dot",
    "headrace_loop",
    "headrace_pack",
    "headrace_packed_dot",
    "headrace_random",
    "headrace_sample",
    "headrace_unbundle",
)

_NUMBER, _POINTER = ctypes.c_int64, ctypes.c_void_p
# The functions that Python calls: what they give, and what they take.
FUNCTIONS = {
    "headrace_packed_size": (_NUMBER, [_NUMBER] * 4),
    "headrace_keep_filter": (None, [_NUMBER]),
    "headrace_drop_filter": (None, [_NUMBER]),
    "headrace_kept_bytes": (_NUMBER, []),
    "headrace_has_convolution": (ctypes.c_int, [_NUMBER, _POINTER]),
    "headrace_host_count": (_NUMBER, [_POINTER, _NUMBER] * 3 + [_NUMBER] * 3),
    "headrace_host_convolution": (ctypes.c_int, [_NUMBER] + [_POINTER] * 4),
    "headrace_has_half": (ctypes.c_int, []),
    "headrace_host_dot": (None, [_POINTER] * 3 + [_NUMBER] * 6),
    "headrace_host_half_dot": (ctypes.c_int, [_POINTER] * 3 + [_NUMBER] * 6),
    "headrace_host_elementwise": (_NUMBER, [_POINTER, _NUMBER, _POINTER]),
    "headrace_host_loop": (
        _NUMBER,
        [_POINTER, _NUMBER, _NUMBER] + [_NUMBER, _POINTER, _POINTER] * 2,
    ),
    "headrace_host_pack": (None, [_POINTER] * 2 + [_NUMBER] * 5),
    "headrace_has_random": (ctypes.c_int, []),
    "headrace_host_random": (None, [_POINTER] * 2 + [_NUMBER] * 3),
    "headrace_host_truncated": (None, [_POINTER] * 2 + [_NUMBER] * 2 + [ctypes.c_double]),
    "headrace_host_batch_norm": (None, [_POINTER] * 6 + [_NUMBER] * 3 + [ctypes.c_double]),
    "headrace_host_batch_norm_gradient": (
        None,
        [_POINTER] * 8 + [_NUMBER] * 3 + [ctypes.c_double],
    ),
}

# The bit of oneDNN's enumeration of instruction sets that AVX2 and all later ones have.
_AVX2 = 4

_logger = logging.getLogger("headrace")
_lock = threading.Lock()
_loaded: bool | None = None
_thread = threading.local()
_kernels: ctypes.CDLL | None = None
_has_half = False


def file_name() -> str:
    """The name of the compiled file: what it was built from and for, since XLA's interface may change with each release."""
    digest = hashlib.sha256()
    for path in sorted(SOURCES.iterdir()):
        if path.suffix in (".cc", ".h", ".inc"):
            digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return f"kernels-{jaxlib.__version__}-{platform.machine()}-{digest.hexdigest()[:12]}.so"


def folders() -> list[Path]:
    """Where the compiled file may lie: in the package, or where that cannot be written to, in the user's cache."""
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return [Path(__file__).parent / "built", Path(cache) / "headrace" / "native"]


def available() -> bool:
    """Whether the kernels can be used here: loads them when asked for the first time.

    False where they were not built for this release of jaxlib, where their library is gone or does not suit the processor,
    where the environment variable HEADRACE_NATIVE is "0", and where XLA computes on something else than the CPU.
    """
    global _loaded
    if getattr(_thread, "without", False):
        return False
    if _loaded is None:
        with _lock:
            if _loaded is None:
                reason = _load()
                if reason:
                    _logger.debug("XLA's own kernels are used: %s", reason)
                _loaded = not reason
    return _loaded


@contextlib.contextmanager
def without() -> Iterator[None]:
    """A block in which this thread lowers to XLA's own operations: XLA knows what these cost."""
    before, _thread.without = getattr(_thread, "without", False), True
    try:
        yield
    finally:
        _thread.without = before


def half_available() -> bool:
    """Whether there are kernels for bfloat16 that are faster than those for float32: where the processor multiplies tiles.

    The environment variable ONEDNN_MAX_CPU_ISA, which limits the instructions that oneDNN uses, holds for this too.
    """
    return available() and _has_half


def kernels() -> ctypes.CDLL:
    """The loaded library, for the functions that Python calls. Only where it is `available`."""
    assert _kernels is not None
    return _kernels


def _load() -> str | None:
    """Loads the kernels and makes them known to XLA; returns why that was not possible."""
    global _kernels, _has_half
    if os.environ.get("HEADRACE_NATIVE") == "0":
        return "HEADRACE_NATIVE is 0"
    if jax.default_backend() != "cpu":
        return f"the device is {jax.default_backend()}"
    name = file_name()
    path = next((f / name for f in folders() if (f / name).is_file()), None)
    if path is None:
        return f"{name} was not built (see `headrace native`)"
    try:
        onednn = json.loads(path.with_suffix(".json").read_text())["onednn"]
        # By its full path; the kernels then find it under its soname.
        library = ctypes.CDLL(onednn)
        if not library.dnnl_get_effective_cpu_isa() & _AVX2:
            return "the processor has no AVX2"
        found = ctypes.CDLL(str(path))
        for name, (result, arguments) in FUNCTIONS.items():
            function = getattr(found, name)
            function.restype, function.argtypes = result, arguments
        for target in TARGETS:
            jax.ffi.register_ffi_target(
                target, jax.ffi.pycapsule(getattr(found, target)), platform="cpu"
            )
        _kernels, _has_half = found, bool(found.headrace_has_half())
    except Exception as error:  # whatever is wrong with a file that nobody must have
        return f"{path} cannot be loaded: {error}"
    return None
