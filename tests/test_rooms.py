"""The order of rooms: data flows down the list, a room imports only rooms above it."""

import ast
import functools
import re
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "headrace"

LAYERS = (
    "core",
    "io",
    "graph",
    "passes",
    "native",
    "lowering",  # rules of ops call its kernels (random numbers, checks), so it stands above them
    "ops",
    "autodiff",
    "runtime",
    "distributed",
    "session",
    "eager",
    "api",
)
# Side rooms stand on `api` and may import one another, as long as no cycle arises.
SIDE_ROOMS = (
    "distribute",
    "train",
    "summary",
    "data",
    "layers",
    "losses",
    "metrics",
    "keras",
    "estimator",
    "saved_model",
    "contrib",
)
TOP = ("compat", "cli")
ROOMS = (*LAYERS, *SIDE_ROOMS, *TOP)

LONGEST_FILE = 800
# Imported only where a user of that feature must have it anyway.
OPTIONAL_IMPORTS = {"torch", "sklearn", "matplotlib", "pytest"}
DISTRIBUTIONS = {"google_crc32c": "google-crc32c", "PIL": "Pillow", "absl": "absl-py"}
# What tensorboard and jax themselves require.
CARRIED = {"grpc", "scipy", "ml_dtypes"}


def source_files():
    return sorted(p for p in PACKAGE.rglob("*.py") if "__pycache__" not in p.parts)


def room_of(path):
    parts = path.relative_to(PACKAGE).parts
    return parts[0] if len(parts) > 1 else None


def file_of(module):
    """The file or folder of a dotted module of Headrace."""
    path = ROOT.joinpath(*module.split("."))
    if path == PACKAGE / "lowering":
        return path / "__init__.py"
    return path if path.is_dir() else path.with_suffix(".py")


class _Imports(ast.NodeVisitor):
    """Collects (line, dotted module) of every import, those under TYPE_CHECKING left out."""

    def __init__(self, package):
        self.package = package
        self.found = []

    def visit_If(self, node):
        if "TYPE_CHECKING" in ast.unparse(node.test):
            node.body = []
        self.generic_visit(node)

    def visit_Import(self, node):
        self.found += [(node.lineno, alias.name) for alias in node.names]

    def visit_ImportFrom(self, node):
        module = node.module or ""
        if node.level:
            base = self.package[: len(self.package) - node.level + 1]
            module = ".".join([*base, module]).rstrip(".")
        names = [f"{module}.{alias.name}" for alias in node.names]
        if module == "headrace":  # from headrace import graph
            self.found += [(node.lineno, name) for name in names]
        elif module == "headrace.lowering":  # a file of it, or a name of its __init__
            files = [name if file_of(name).exists() else module for name in names]
            self.found += [(node.lineno, name) for name in files]
        else:
            self.found.append((node.lineno, module))


@functools.cache
def imports_of(path):
    package = list(path.relative_to(ROOT).parent.parts)
    visitor = _Imports(package)
    visitor.visit(ast.parse(path.read_text(encoding="utf-8"), str(path)))
    return visitor.found


def room_edges():
    """(path:line, importing room, imported room) of every import from room to room."""
    for path in source_files():
        room = room_of(path)
        for line, module in imports_of(path):
            parts = module.split(".")
            if parts[0] != "headrace" or len(parts) < 2 or parts[1] not in ROOMS:
                continue
            other = parts[1]
            if room and other != room:
                yield f"{path.relative_to(ROOT)}:{line}", room, other


def may_import(room, other):
    """Whether `room` stands below `other`."""
    if room in TOP:
        return other not in TOP or TOP.index(other) < TOP.index(room)
    if room in SIDE_ROOMS:
        return other in LAYERS or other in SIDE_ROOMS
    return other in LAYERS and LAYERS.index(other) < LAYERS.index(room)


def test_every_folder_is_a_room():
    found = {room_of(p) for p in source_files()} - {None}
    assert found <= set(ROOMS), f"not in the order of rooms: {sorted(found - set(ROOMS))}"


def test_rooms_import_only_rooms_above():
    wrong = [
        f"{place}: {room} imports {other}"
        for place, room, other in room_edges()
        if not may_import(room, other)
    ]
    assert not wrong, "\n" + "\n".join(wrong)


def test_side_rooms_have_no_cycle():
    needs = {room: set() for room in SIDE_ROOMS}
    for _, room, other in room_edges():
        if room in needs and other in needs:
            needs[room].add(other)
    while free := [room for room, others in needs.items() if not others]:
        for room in free:
            del needs[room]
        for others in needs.values():
            others.difference_update(free)
    assert not needs, f"side rooms import each other in a circle: {needs}"


def test_the_order_is_checked():
    assert may_import("ops", "lowering") and not may_import("lowering", "ops")
    assert may_import("ops", "lowering") and not may_import("lowering", "ops")
    assert may_import("keras", "layers") and may_import("cli", "compat")
    assert not may_import("graph", "train") and not may_import("api", "compat")


def test_files_are_short_and_named_for_their_subject():
    wrong = []
    for path in [*source_files(), *(ROOT / "tests").rglob("*.py")]:
        lines = path.read_text(encoding="utf-8").count("\n")
        if lines >= LONGEST_FILE and path.parent != PACKAGE / "compat":
            wrong.append(f"{path.relative_to(ROOT)} has {lines} lines; split it by subject")
        if path.stem in ("utils", "util", "helpers", "misc"):
            wrong.append(f"{path.relative_to(ROOT)}: name the file for what is in it")
    assert not wrong, "\n" + "\n".join(wrong)


def test_third_party_imports_are_declared():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    declared = {re.split(r"[<>=\[ ]", entry)[0].lower() for entry in project["dependencies"]}
    wrong = []
    for path in source_files():
        for line, module in imports_of(path):
            top = module.split(".")[0]
            if top in sys.stdlib_module_names or top in ("headrace", "google", "tensorflow"):
                continue
            if top in OPTIONAL_IMPORTS or top in CARRIED:
                continue
            if DISTRIBUTIONS.get(top, top).lower() not in declared:
                wrong.append(f"{path.relative_to(ROOT)}:{line} imports {top}")
    assert not wrong, "not among the dependencies of pyproject.toml:\n" + "\n".join(wrong)


@pytest.mark.parametrize("name", ["README.md", "LICENSE", "CHANGELOG.md", "docs/README.md"])
def test_the_links_of_the_pages_lead_somewhere(name):
    page = ROOT / name
    links = re.findall(r"\]\(([^)#:]+)\)", page.read_text(encoding="utf-8"))
    assert [link for link in links if not (page.parent / link).exists()] == []
