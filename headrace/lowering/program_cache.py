"""Programs that are kept between processes, where the environment variable HEADRACE_CACHE asks for it.

JAX's own persistent cache does the work. What it reads back is machine code, and runs: the folder must be the user's own,
closed to others, and is one for each release of XLA, build of the native kernels and kind of processor.
"""

from __future__ import annotations

import hashlib
import logging
import os
import platform
import stat
from collections.abc import Mapping
from pathlib import Path

import jax
import jaxlib

from headrace.native import library

VARIABLE = "HEADRACE_CACHE"

# Beyond so many bytes the oldest programs are deleted, when a process starts to use the folder.
_MOST_BYTES = 1 << 30
# What compiles faster is not worth a file.
_LEAST_SECONDS = 0.2

_logger = logging.getLogger("headrace")


def keep_programs(environment: Mapping[str, str] = os.environ) -> Path | None:
    """Has JAX keep programs in the folder that HEADRACE_CACHE names, "1": headrace/programs in the user's cache.

    To be called before the first program is compiled. Returns the folder; None where none was asked for, where JAX was given
    one already, or where it is not safe to use, which is logged.
    """
    asked = environment.get(VARIABLE, "0")
    if asked in ("", "0") or jax.config.jax_compilation_cache_dir:  # type: ignore[attr-defined]
        return None
    home = environment.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    root = Path(home) / "headrace" / "programs" if asked == "1" else Path(asked).absolute()
    folder = root / _kind_of_machine()
    try:
        for path in (root, folder):
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
            _check_private(path)
        _delete_oldest(root, _MOST_BYTES)
    except OSError as error:
        _logger.warning("programs are not kept: %s", error)
        return None
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", _LEAST_SECONDS)
    return folder


def _kind_of_machine() -> str:
    """A name for what programs are made for."""
    digest = hashlib.sha256(library.file_name().encode())
    digest.update(os.environ.get("ONEDNN_MAX_CPU_ISA", "").encode())
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        kinds = {line for line in lines if line.startswith(("model name", "flags", "Features"))}
        digest.update("\n".join(sorted(kinds)).encode())
    except OSError:
        digest.update(platform.processor().encode())
    return f"{jaxlib.__version__}-{platform.machine()}-{digest.hexdigest()[:12]}"


def _check_private(path: Path) -> None:
    """Raises PermissionError: others than the user could have written to the folder."""
    found = path.lstat()
    if not stat.S_ISDIR(found.st_mode):
        raise PermissionError(f"{path} is not a folder")
    if hasattr(os, "getuid") and found.st_uid != os.getuid():
        raise PermissionError(f"{path} belongs to another user")
    if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise PermissionError(f"others may write to {path}: chmod go-w it")


def _delete_oldest(root: Path, most: int) -> None:
    """Deletes files below `root`, the oldest first, until they take no more than `most` bytes."""
    files = [(f.stat().st_mtime, f.stat().st_size, f) for f in root.rglob("*") if f.is_file()]
    total = sum(size for _, size, _ in files)
    for _, size, file in sorted(files, key=lambda f: f[:2]):
        if total <= most:
            return
        file.unlink(missing_ok=True)
        total -= size
