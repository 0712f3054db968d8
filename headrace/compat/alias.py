"""The import alias: makes `import tensorflow` mean Headrace.

`tensorflow`, and whatever lies below it, become modules of this file's making. Each looks an attribute up
in Headrace when it is asked for, never before, so that the alias costs nothing that a program does not use:

- `tensorflow` and `tensorflow.nn` look in `headrace` and `headrace.nn`;
- `tensorflow.python.ops.array_ops` looks in the public namespaces that `private_names.txt` gives for it;
- `tensorflow.core.framework.graph_pb2` looks among the protocol messages;
- `tensorflow.python.client.timeline` is the file at that path under `headrace/compat/private/`.

The module `tensorflow` is not the module `headrace` itself, because importing a submodule assigns it to its
parent: `import tensorflow.core.framework` would put something else in the place of `headrace.core`.
"""

import functools
import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import re
import sys
import types
from collections.abc import Callable, Iterator, Sequence

from headrace.compat.private_names import (
    MODULES,
    OPS_NAMESPACES,
    OPS_PREFIX,
    PACKAGES,
    RENAMED,
)

TENSORFLOW_VERSION = "1.15.5"
# Rooms of Headrace that are no names of TensorFlow's.
_INTERNAL = frozenset(
    "api autodiff cli core distributed eager graph lowering ops passes runtime session".split()
)
# Below these, nothing is public.
_PRIVATE = frozenset(("python", "core"))
_PROTO_NAMESPACES = ("", "train", "summary", "saved_model", "profiler")
# Files of messages of which TensorBoard has no copy, and Headrace some.
_PUBLIC_PROTOS = frozenset(
    "device_attributes example example_parser_configuration feature op_def_library "
    "saved_model saved_tensor_slice tensor_bundle tensor_slice".split()
)
_GENERATED = re.compile(re.escape(OPS_PREFIX) + r"gen_\w+_ops")
_ABSENT = object()

Lookup = Callable[[str], object]


class AliasModule(types.ModuleType):
    """A module under the name `tensorflow...` that asks Headrace for its attributes."""

    def __init__(self, name: str, lookup: Lookup, names: Callable[[], list[str]]):
        super().__init__(name, f"Stands in for {name}; the names are Headrace's.")
        self.__dict__["_lookup"], self.__dict__["_names"] = lookup, names

    def __getattr__(self, attr: str) -> object:
        if attr == "__all__":
            return self._names()
        value = _ABSENT if _is_dunder(attr) and attr != "__version__" else self._lookup(attr)
        if value is _ABSENT:
            raise AttributeError(_missing(self.__name__, attr), name=attr, obj=self)
        return value

    def __dir__(self) -> list[str]:
        return sorted({*self.__dict__, *self._names()} - {"_lookup", "_names"})

    def __repr__(self) -> str:
        return f"<module {self.__name__!r}, which Headrace stands in for>"


class AliasFinder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds and makes the alias modules. `target`: the module whose names they show."""

    def __init__(self, target: types.ModuleType):
        self.target = target

    def find_spec(self, fullname, path=None, target=None):
        if fullname != "tensorflow" and not fullname.startswith("tensorflow."):
            return None
        if self._lookup_of(fullname[len("tensorflow.") :]) is None:
            # No `name=`: with it, `from tensorflow import x` would replace this text by its own.
            raise ModuleNotFoundError(_missing(*fullname.rpartition(".")[::2]))
        return importlib.machinery.ModuleSpec(
            fullname, self, origin=f"alias of {self.target.__name__}", is_package=True
        )

    def create_module(self, spec):
        lookup, names = self._lookup_of(spec.name[len("tensorflow.") :])
        return AliasModule(spec.name, lookup, names)

    def exec_module(self, module):
        """Nothing to execute: the attributes come when they are asked for."""

    def _lookup_of(self, path: str):
        """(lookup, names) of the module `tensorflow.<path>`, or None where there is none."""
        if path.startswith("core.") and path.endswith("_pb2"):
            return self._proto_lookup(path)
        if path.startswith("contrib.") and self._public(_head(path, 2)) is _ABSENT:
            return None
        if path in MODULES or _GENERATED.fullmatch(path):
            return self._private_lookup(path)
        own = self._own_module(path)
        if own is not None:
            return self._own_lookup(path, own)
        namespace = _ABSENT if _head(path, 1) in _PRIVATE else self._public(path)
        if isinstance(namespace, types.ModuleType | types.SimpleNamespace):
            return self._public_lookup(path, namespace)
        return self._private_lookup(path) if path in PACKAGES else None

    # ---- the four kinds of module

    def _public_lookup(self, path: str, namespace):
        def lookup(attr):
            if namespace is self.target and attr == "__version__":
                return TENSORFLOW_VERSION
            if namespace is self.target and attr in _INTERNAL:
                return self._child(path, attr)
            value = self._member(namespace, attr)
            return self._child(path, attr) if value is _ABSENT else value

        def names():
            hidden = _INTERNAL if namespace is self.target else ()
            listed = getattr(namespace, "__all__", None) or dir(namespace)
            return [name for name in listed if not name.startswith("_") and name not in hidden]

        return lookup, names

    def _private_lookup(self, path: str):
        spaces = MODULES.get(path, ())
        if path.startswith(OPS_PREFIX):
            spaces = (*spaces, *(s for s in OPS_NAMESPACES if s not in spaces))
        own = self._own_module(path)

        def lookup(attr):
            value = _own_value(own, attr)
            if value is not _ABSENT:
                return value
            renamed = RENAMED.get(f"{path}.{attr}")
            if renamed is not None:
                return self._public(renamed)
            value = self._child(path, attr)
            for space in spaces if value is _ABSENT else ():
                value = self._public(f"{space}.{attr}" if space else attr)
                if value is not _ABSENT and not (not space and attr in _INTERNAL):
                    return value
            if value is _ABSENT and path.startswith(OPS_PREFIX):
                return self._generated_op(attr)
            return value

        def names():
            found = {n.rpartition(".")[2] for n in RENAMED if n.rpartition(".")[0] == path}
            for space in MODULES.get(path, ()):
                namespace = self._public(space)
                found.update(n for n in dir(namespace) if not n.startswith("_"))
            if "" in MODULES.get(path, ()):
                found -= _INTERNAL
            return sorted(found)

        return lookup, names

    def _proto_lookup(self, path: str):
        file = path.rpartition(".")[2]
        tensorboards = _import_if_there(f"tensorboard.compat.proto.{file}")
        if tensorboards is None and file.removesuffix("_pb2") not in _PUBLIC_PROTOS:
            return None
        modules = [tensorboards, _import_if_there("headrace.io.protos")]

        def lookup(attr):
            for space in _PROTO_NAMESPACES:
                value = self._public(f"{space}.{attr}" if space else attr)
                if isinstance(value, type) and hasattr(value, "DESCRIPTOR"):
                    return value
            return next((getattr(m, attr) for m in modules if hasattr(m, attr)), _ABSENT)

        return lookup, lambda: [n for n in dir(tensorboards) if not n.startswith("_")]

    def _own_lookup(self, path: str, module: types.ModuleType):
        def lookup(attr):
            value = _own_value(module, attr)
            return self._child(path, attr) if value is _ABSENT else value

        return lookup, lambda: [n for n in dir(module) if not n.startswith("_")]

    # ---- where things are

    def _public(self, path: str) -> object:
        """The value of `tf.<path>`, or _ABSENT. `tf.compat.v1.x` is `tf.x`."""
        path = path.removeprefix("compat.v1.") if path != "compat.v1" else ""
        value: object = self.target
        for part in path.split(".") if path else ():
            if value is self.target and part in _INTERNAL:
                return _ABSENT
            value = self._member(value, part)
            if value is _ABSENT:
                return _ABSENT
        return value

    @staticmethod
    def _member(namespace: object, attr: str) -> object:
        try:
            return getattr(namespace, attr)
        except AttributeError:
            pass
        if isinstance(namespace, types.ModuleType) and hasattr(namespace, "__path__"):
            found = _import_if_there(f"{namespace.__name__}.{attr}")
            return _ABSENT if found is None else found
        return _ABSENT

    def _child(self, path: str, attr: str) -> object:
        """The alias module below `tensorflow.<path>`, imported as it is asked for."""
        child = f"{path}.{attr}" if path else attr
        known = child in MODULES or child in PACKAGES or _GENERATED.fullmatch(child)
        if (known or self._own_module(child) is not None) and self._lookup_of(child) is not None:
            return importlib.import_module(f"tensorflow.{child}")
        return _ABSENT

    @staticmethod
    def _own_module(path: str) -> types.ModuleType | None:
        """The file of Headrace's own that takes the place of the private module `path`."""
        return _import_if_there(f"headrace.compat.private.{path}") if path else None

    def _generated_op(self, attr: str) -> object:
        """What `gen_..._ops.<attr>` is: the function of the op whose name that is in CamelCase."""
        op = self._ops.get(attr.replace("_", "").lower())
        return self._member(self._public("raw_ops"), op) if op else _ABSENT

    @functools.cached_property
    def _ops(self) -> dict[str, str]:
        return {op.lower(): op for op in dir(self._public("raw_ops")) if op[0].isupper()}


def _own_value(own: types.ModuleType | None, attr: str) -> object:
    """What a file of Headrace's own has under `attr`; its submodules are looked up by their path instead."""
    value = getattr(own, attr, _ABSENT)
    return _ABSENT if isinstance(value, types.ModuleType) else value


def install_alias(target: types.ModuleType | None = None) -> None:
    """Makes `import tensorflow`, and imports of what lies below it, mean Headrace from here on.

    target: the module to show under that name; Headrace where it is None.
    A second call does nothing. Raises ImportError: the real TensorFlow is imported already.
    """
    present = sys.modules.get("tensorflow")
    if isinstance(present, AliasModule):
        return
    if present is not None:
        version = getattr(present, "__version__", "of unknown version")
        place = getattr(present, "__file__", "an unknown place")
        raise ImportError(
            f"install_alias() comes too late: TensorFlow {version} is already imported, from {place}. "
            "Call it before anything imports tensorflow, or use `headrace run`."
        )
    if target is None:
        target = importlib.import_module("headrace")
    # TensorBoard looks for a TensorFlow and would take the alias; its own small stand-in is what it
    # is tested with where there is none. This name is how it is told to.
    sys.modules.setdefault("tensorboard.compat.notf", types.ModuleType("notf"))
    sys.meta_path.insert(0, AliasFinder(target))
    importlib.import_module("tensorflow")


def remove_alias() -> None:
    """Takes the alias away again; modules that imported it keep what they have."""
    sys.meta_path[:] = [f for f in sys.meta_path if not isinstance(f, AliasFinder)]
    for name in list(_alias_modules()):
        del sys.modules[name]


def _alias_modules() -> Iterator[str]:
    return (name for name, m in sys.modules.items() if isinstance(m, AliasModule))


def _import_if_there(name: str) -> types.ModuleType | None:
    """The module `name`; None where it, or a package above it, does not exist."""
    if name in sys.modules:
        return sys.modules[name]
    parent = name.rpartition(".")[0]
    if parent and _import_if_there(parent) is None:
        return None
    path: Sequence[str] | None = getattr(sys.modules.get(parent), "__path__", None)
    if parent and path is None:
        return None
    if importlib.util.find_spec(name) is None:
        return None
    return importlib.import_module(name)


def _missing(module: str, attr: str) -> str:
    public = module.removeprefix("tensorflow").removeprefix(".")
    name = ".".join(part for part in ("tf", public, attr) if part)
    return (
        f"module {module!r} has no {attr!r}: Headrace stands in for TensorFlow here and does not have "
        f"{name} (yet)."
    )


def _is_dunder(attr: str) -> bool:
    return attr.startswith("__") and attr.endswith("__")


def _head(path: str, parts: int) -> str:
    return ".".join(path.split(".")[:parts])
