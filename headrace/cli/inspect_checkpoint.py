"""`headrace inspect-checkpoint`: what a checkpoint holds."""

import argparse
import math
import os
import re

import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from headrace.core import errors
from headrace.io.checkpoint_reader import CheckpointReader

_PARTS = re.compile(r"\.(index|meta|data-\d{5}-of-\d{5})$")
_STATE = re.compile(r'^\s*model_checkpoint_path:\s*"(.*)"', re.MULTILINE)


def main(arguments: list[str]) -> int:
    """Prints a table of the tensors of a checkpoint, or the values of those that are named."""
    parser = argparse.ArgumentParser(
        prog="headrace inspect-checkpoint",
        description="Shows the names, types and shapes in a checkpoint.",
    )
    parser.add_argument("path", help="prefix, any file of the checkpoint, or the folder it is in")
    parser.add_argument("tensor", nargs="*", help="show the values of these tensors instead")
    options = parser.parse_args(arguments)
    console = Console(soft_wrap=True, highlight=False)
    try:
        prefix = checkpoint_prefix(options.path)
        reader = CheckpointReader(prefix)
        if options.tensor:
            for name in options.tensor:
                value = np.array2string(np.asarray(reader.get_tensor(name)), separator=", ")
                console.print(f"{name} =", markup=False)
                console.print(value, markup=False)
        else:
            console.print(_table(reader, prefix))
    except (errors.OpError, FileNotFoundError) as error:
        Console(stderr=True, soft_wrap=True).print(f"inspect-checkpoint: {escape(str(error))}")
        return 1
    return 0


def checkpoint_prefix(path: str) -> str:
    """The prefix meant by `path`: itself, a file's of the checkpoint, or the newest in a folder.

    Raises FileNotFoundError: a folder without a file `checkpoint` that names one.
    """
    if not os.path.isdir(path):
        return _PARTS.sub("", path)
    state = os.path.join(path, "checkpoint")
    if os.path.isfile(state):
        with open(state, encoding="utf-8") as file:
            found = _STATE.search(file.read())
        if found:
            return os.path.join(path, found[1])
    raise FileNotFoundError(f"{path} has no file 'checkpoint' that names the newest one")


def _table(reader: CheckpointReader, prefix: str) -> Table:
    shapes, types = reader.get_variable_to_shape_map(), reader.get_variable_to_dtype_map()
    counts = {name: math.prod(shape) for name, shape in shapes.items()}
    total = f"{len(counts)} tensors, {sum(counts.values()):,} elements"
    table = Table(title=escape(prefix), caption=total, title_style="bold")
    for header, justify in (
        ("name", "left"),
        ("type", "left"),
        ("shape", "left"),
        ("elements", "right"),
    ):
        table.add_column(header, justify=justify, overflow="fold")
    for name in sorted(shapes):
        table.add_row(
            escape(name), types[name].name, escape(str(list(shapes[name]))), f"{counts[name]:,}"
        )
    return table
