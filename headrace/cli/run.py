"""`headrace run`: runs a script as Python would, except that `import tensorflow` means Headrace."""

import io
import os
import runpy
import sys
import types

from headrace.compat.alias import install_alias

_HERE = os.path.dirname(os.path.abspath(__file__))


def main(arguments: list[str]) -> int:
    """Runs `arguments` = [script, *its arguments] or ["-m", module, *its arguments]."""
    as_module = arguments[:1] == ["-m"]
    arguments = arguments[as_module:]
    if not arguments or arguments[0] in ("-h", "--help"):
        print(
            "usage: headrace run SCRIPT [ARGUMENT ...]\n       headrace run -m MODULE [ARGUMENT ...]"
        )
        return 0 if arguments else 2
    if not as_module and not os.path.isfile(arguments[0]):
        print(f"headrace run: no file {arguments[0]!r}", file=sys.stderr)
        return 2
    install_alias()
    try:
        (run_module if as_module else run_script)(arguments[0], arguments[1:])
    except Exception as error:
        # What python prints for the script alone: the frames above its first line are ours.
        theirs = _without_our_frames(error.__traceback__)
        sys.excepthook(type(error), error.with_traceback(theirs), theirs)
        return 1
    return 0


def run_script(path: str, arguments: list[str]) -> None:
    """Runs the file `path` as `__main__`; `sys.argv`, `sys.path[0]` and `__file__` are as `python path` has them."""
    sys.argv[:] = [path, *arguments]
    if not sys.flags.safe_path:
        sys.path[0] = os.path.dirname(os.path.abspath(path))
    with io.open_code(os.path.abspath(path)) as file:
        code = compile(file.read(), path, "exec", dont_inherit=True)
    # Not runpy.run_path: it takes `__main__` away when the last line is done, while threads and
    # exit handlers of the script's may still look it up (pickle does).
    module = types.ModuleType("__main__")
    module.__dict__.update(
        __file__=os.path.abspath(path), __builtins__=__builtins__, __cached__=None
    )
    sys.modules["__main__"] = module
    exec(code, module.__dict__)


def run_module(name: str, arguments: list[str]) -> None:
    """Runs the module `name` as `python -m name` does."""
    sys.argv[:] = [name, *arguments]
    if not sys.flags.safe_path:
        sys.path[0] = os.getcwd()
    runpy.run_module(name, run_name="__main__", alter_sys=True)


def _without_our_frames(traceback: types.TracebackType | None) -> types.TracebackType | None:
    theirs = traceback
    while theirs is not None:
        file = theirs.tb_frame.f_code.co_filename
        if not (file.startswith(_HERE) or file.startswith("<frozen runpy")):
            return theirs
        theirs = theirs.tb_next
    return theirs  # None: a SyntaxError of the script's has no frame of its own
