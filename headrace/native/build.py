"""Compiles the kernels: `python -m headrace.native.build`, or `headrace native`.

Needs a C++20 compiler (the one named by CXX, else c++, g++ or clang++) and oneDNN (`pip install headrace[onednn]`).
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

import jax

from headrace.native.library import SOURCES, file_name, folders

_FLAGS = ("-O3", "-std=c++20", "-shared", "-fPIC", "-fvisibility=hidden")


class BuildError(Exception):
    """Why the kernels could not be built."""


def build(folder: str | os.PathLike[str] | None = None) -> Path:
    """Compiles the kernels into `folder`, by default the first of `library.folders()` that can be written to.

    Returns the path of the compiled file; one that is there already is left as it is. Raises BuildError: no compiler, no
    library, no folder, or the compiler failed.
    """
    chosen = _writable([Path(folder)] if folder is not None else folders())
    path = chosen / file_name()
    onednn, headers = _find_onednn()
    manifest = path.with_suffix(".json")
    if (
        path.is_file()
        and manifest.is_file()
        and json.loads(manifest.read_text())["onednn"] == str(onednn)
    ):
        return path
    with tempfile.TemporaryDirectory(dir=chosen) as scratch:
        made = Path(scratch) / path.name
        command = [
            *_compiler(),
            *_FLAGS,
            *("-isystem", str(headers), "-isystem", jax.ffi.include_dir(), f"-I{SOURCES}"),
            *map(str, sorted(SOURCES.glob("*.cc"))),
            *("-o", str(made), str(onednn), "-l:libgomp.so.1", "-pthread"),
        ]
        try:
            done = subprocess.run(command, capture_output=True, text=True, errors="replace")
        except OSError as error:
            raise BuildError(f"{command[0]} cannot be run: {error}") from error
        if done.returncode:
            raise BuildError(f"{command[0]} failed:\n{done.stderr[-2000:]}")
        written = made.with_suffix(".json")
        written.write_text(json.dumps({"onednn": str(onednn)}))
        os.replace(written, manifest)
        os.replace(made, path)
    # In the package's own folder, what earlier sources gave is of no use to anybody.
    if chosen == folders()[0]:
        for old in chosen.glob(f"{path.name.rpartition('-')[0]}-*"):
            if old.stem != path.stem:
                old.unlink(missing_ok=True)
    return path


def _writable(candidates: list[Path]) -> Path:
    for folder in candidates:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder):
                return folder
        except OSError:
            continue
    raise BuildError(f"none of the folders {', '.join(map(str, candidates))} can be written to")


def _compiler() -> list[str]:
    if os.environ.get("CXX"):
        return os.environ["CXX"].split()
    for name in ("c++", "g++", "clang++"):
        if shutil.which(name):
            return [name]
    raise BuildError("no C++ compiler on PATH")


def _find_onednn() -> tuple[Path, Path]:
    """oneDNN's shared library and the folder of its headers, where its wheels put them."""
    prefix = Path(sysconfig.get_path("data"))
    library, headers = prefix / "lib" / "libdnnl.so.3", prefix / "include"
    for path in (library, headers / "dnnl.h"):
        if not path.is_file():
            raise BuildError(f"oneDNN is not installed: there is no {path}")
    return library.resolve(), headers


def main(arguments: list[str] | None = None) -> int:
    """Builds the kernels and says where they are, or why there are none. Returns the exit status."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if arguments:
        print("usage: headrace native")
        return 0 if arguments[0] in ("-h", "--help") else 2
    try:
        print(f"native kernels: {build()}")
    except BuildError as error:
        print(f"no native kernels (XLA's own are used): {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
