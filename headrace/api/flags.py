"""`tf.flags` and `tf.app`: absl's flags, which are parsed when a program first reads one."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from typing import Any

from absl import app as absl_app
from absl import flags as absl_flags

from headrace.api.export import export, export_value

# A flag belongs to the module that calls DEFINE_...: that is not this one.
absl_flags.disclaim_key_flags()

_OLD_NAMES = {"flag_name": "name", "default_value": "default", "docstring": "help"}


class _Flags:
    """absl's FLAGS, except that reading a flag before `app.run` parses the command line."""

    def __init__(self, flags: absl_flags.FlagValues):
        object.__setattr__(self, "_flags", flags)

    def __getattr__(self, name: str) -> Any:
        flags = self._flags
        if name in flags and not flags.is_parsed():
            flags(sys.argv)
        return getattr(flags, name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._flags, name, value)

    def __delattr__(self, name: str) -> None:
        delattr(self._flags, name)

    def __dir__(self) -> list[str]:
        return dir(self._flags)

    def __getitem__(self, name: str) -> Any:
        return self._flags[name]

    def __setitem__(self, name: str, flag: Any) -> None:
        self._flags[name] = flag

    def __contains__(self, name: str) -> bool:
        return name in self._flags

    def __len__(self) -> int:
        return len(self._flags)

    def __iter__(self):
        return iter(self._flags)

    def __str__(self) -> str:
        return str(self._flags)

    def __call__(self, *args: Any, **kwargs: Any) -> list[str]:
        return self._flags(*args, **kwargs)


def _with_old_names(define: Callable[..., Any]) -> Callable[..., Any]:
    """Lets `define` take flag_name, default_value and docstring, its arguments' names before 1.5."""

    @functools.wraps(define)
    def renaming(*args: Any, **kwargs: Any) -> Any:
        return define(
            *args, **{_OLD_NAMES.get(name, name): value for name, value in kwargs.items()}
        )

    return renaming


for _name in dir(absl_flags):
    _value = getattr(absl_flags, _name)
    if _name.startswith("_") or isinstance(_value, type(sys)):
        continue
    if _name.startswith("DEFINE_"):
        _value = _with_old_names(_value)
    if _name == "FLAGS":
        _value = _Flags(_value)
    export_value(_value, f"flags.{_name}", f"app.flags.{_name}")


@export("app.run")
def run(main: Callable[[list[str]], Any] | None = None, argv: list[str] | None = None) -> None:
    """Parses the flags, calls `main` with what is left of the arguments, and exits with what it returns.

    main: the function `main` of the script where it is None.  argv: `sys.argv` where it is None.
    Flags that nobody defined are left to `main`.
    """
    main = main or sys.modules["__main__"].main
    absl_app.run(main, argv, flags_parser=_parse_known)


def _parse_known(argv: list[str]) -> list[str]:
    flags = absl_flags.FLAGS
    return flags(sys.argv if argv is None else argv, known_only=True)
