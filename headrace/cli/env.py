"""`headrace env`: the versions and devices that a report of a fault should name."""

import os
import platform
from importlib import metadata

import jax
from rich.console import Console
from rich.table import Table

PACKAGES = ("headrace", "jax", "jaxlib", "numpy", "protobuf", "tensorboard")
VARIABLES = ("JAX_PLATFORMS", "XLA_FLAGS", "CUDA_VISIBLE_DEVICES", "JAX_COMPILATION_CACHE_DIR")


def main(arguments: list[str]) -> int:
    """Prints a table of versions, devices and the environment variables that matter."""
    if arguments:
        print("usage: headrace env")
        return 0 if arguments[0] in ("-h", "--help") else 2
    table = Table(show_header=False, box=None, pad_edge=False)
    for name, value in environment():
        table.add_row(name, value)
    Console(soft_wrap=True).print(table)
    return 0


def environment() -> list[tuple[str, str]]:
    """Returns (name, value) rows."""
    rows = [("python", f"{platform.python_version()} ({platform.platform()})")]
    for package in PACKAGES:
        try:
            rows.append((package, metadata.version(package)))
        except metadata.PackageNotFoundError:
            rows.append((package, "not installed as a package"))
    rows += [("cpu cores", str(os.cpu_count()))]
    try:
        devices = jax.devices()
    except RuntimeError as error:
        rows.append(("devices", f"none: {error}"))
    else:
        rows += [(f"device {d.platform}:{d.id}", d.device_kind) for d in devices]
    return rows + [(name, os.environ[name]) for name in VARIABLES if name in os.environ]
