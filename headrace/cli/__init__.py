"""The `headrace` command: runs scripts under the import alias, shows checkpoints and the environment.

Each command is a function `(arguments) -> exit status` in a file of its own, imported when it is
called: `headrace run` should start as fast as Python does.
"""

import importlib
import os
import sys

USAGE = """\
usage: headrace run SCRIPT [ARGUMENT ...]      run a script whose `import tensorflow` means Headrace
       headrace run -m MODULE [ARGUMENT ...]   the same for a module
       headrace inspect-checkpoint PATH        names, types and shapes in a checkpoint
       headrace env                            versions and devices
       headrace native                         compile the optional kernels in C++ for this environment
       headrace --version

`headrace SCRIPT.py ...` and `python -m headrace SCRIPT.py ...` are `headrace run SCRIPT.py ...`.
"""

COMMANDS = {
    "run": "headrace.cli.run",
    "inspect-checkpoint": "headrace.cli.inspect_checkpoint",
    "env": "headrace.cli.env",
    "native": "headrace.cli.native",
}


def main(arguments: list[str] | None = None) -> int:
    """Runs the command line `arguments` (`sys.argv` without the first) and returns the exit status."""
    arguments = sys.argv[1:] if arguments is None else arguments
    first = arguments[0] if arguments else ""
    if first in COMMANDS:
        return importlib.import_module(COMMANDS[first]).main(arguments[1:])
    if first in ("--version", "-V"):
        from importlib import metadata

        print(f"headrace {metadata.version('headrace')}")
        return 0
    if first in ("--help", "-h", "help"):
        print(USAGE, end="")
        return 0
    if first == "-m" or first.endswith(".py") or os.path.isfile(first):
        return importlib.import_module(COMMANDS["run"]).main(arguments)
    print(USAGE, end="", file=sys.stderr)
    if first:
        print(f"headrace: no command or script {first!r}", file=sys.stderr)
    return 2
