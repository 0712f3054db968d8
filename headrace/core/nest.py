"""Nested structures: lists, tuples, named tuples, mappings and attrs classes with leaves in them.

Mappings are walked in the order of their sorted keys, whatever order they keep themselves, so that
a plain dict and an OrderedDict of the same keys match. Strings, arrays and sets are leaves. A
composite tensor (one made of several tensors) is a leaf unless `expand_composites` is set.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from headrace.core.structures import (
    COMPOSITE,
    MAPPING,
    NAMEDTUPLE,
    VIEW,
    children_of,
    items_of,
    kind_of,
    last_kind,
    rebuild,
    sorted_keys,
)

Path = tuple[Any, ...]


def is_nested(seq: Any) -> bool:
    """Returns whether `seq` is a structure rather than a leaf."""
    return 0 < kind_of(seq) <= VIEW


is_sequence = is_nested


def is_sequence_or_composite(seq: Any) -> bool:
    """Returns whether `seq` is a structure, a composite tensor, or the type spec of one."""
    return kind_of(seq) > 0


def flatten(structure: Any, expand_composites: bool = False) -> list:
    """Returns the leaves of `structure` as a list; a leaf alone gives a list of one.

    Raises TypeError: the keys of a mapping cannot be sorted.
    """
    leaves: list = []
    _flatten_into(leaves, structure, last_kind(expand_composites))
    return leaves


def _flatten_into(leaves: list, structure: Any, top: int) -> None:
    kind = kind_of(structure)
    if not 0 < kind <= top:
        leaves.append(structure)
        return
    for child in children_of(structure, kind):
        if 0 < kind_of(child) <= top:
            _flatten_into(leaves, child, top)
        else:
            leaves.append(child)


class _Mismatch(Exception):
    """Two structures differ: the class of error to raise, and how they differ."""


def _describe(value: Any) -> str:
    return f"type={type(value).__name__} str={value}"


def assert_same_structure(
    nest1: Any, nest2: Any, check_types: bool = True, expand_composites: bool = False
) -> None:
    """Raises unless both structures nest in the same way.

    check_types: also compare the types of the structures and the keys of mappings; a dict and an
    OrderedDict count as the same type, and so do two named tuples of the same name and fields.
    Raises ValueError: they differ in nesting, length or keys.  TypeError: they differ in types.
    """
    try:
        _compare(nest1, nest2, check_types, last_kind(expand_composites))
    except _Mismatch as mismatch:
        error, difference = mismatch.args
        shape1, shape2 = (map_structure(lambda _: _DOT, n) for n in (nest1, nest2))
        raise error(
            "The two structures don't have the same nested structure.\n\n"
            f"First structure: {_describe(nest1)}\n\nSecond structure: {_describe(nest2)}\n\n"
            f"More specifically: {difference}\n"
            f"Entire first structure:\n{shape1}\nEntire second structure:\n{shape2}"
        ) from None


class _Dot:
    """Stands for a leaf where a structure is printed."""

    def __repr__(self) -> str:
        return "."


_DOT = _Dot()


def _compare(x: Any, y: Any, check_types: bool, top: int) -> None:
    """Raises _Mismatch unless `x` and `y` nest in the same way."""
    x_kind, y_kind = kind_of(x), kind_of(y)
    x_nested = 0 < x_kind <= top
    if x_nested != (0 < y_kind <= top):
        nested, leaf = (x, y) if x_nested else (y, x)
        raise _Mismatch(
            ValueError,
            f'Substructure "{_describe(nested)}" is a sequence, while substructure '
            f'"{_describe(leaf)}" is not',
        )
    if not x_nested:
        return
    if check_types:
        if not _same_type(x, x_kind, y, y_kind):
            raise _Mismatch(
                TypeError,
                "The two namedtuples don't have the same sequence type. First structure "
                f"{_describe(x)} has type {type(x).__name__}, while second structure "
                f"{_describe(y)} has type {type(y).__name__}",
            )
        if x_kind == MAPPING and x.keys() != y.keys():
            raise _Mismatch(
                ValueError,
                "The two dictionaries don't have the same set of keys. First structure has keys "
                f"{_describe(list(x.keys()))}, while second structure has keys "
                f"{_describe(list(y.keys()))}",
            )
    if x_kind == COMPOSITE or y_kind == COMPOSITE:
        _compare_specs(x, y)
    x_values, y_values = children_of(x, x_kind), children_of(y, y_kind)
    for x_child, y_child in zip(x_values, y_values, strict=False):
        _compare(x_child, y_child, check_types, top)
    if len(x_values) != len(y_values):
        raise _Mismatch(
            ValueError,
            "The two structures don't have the same number of elements. "
            f"First structure: {_describe(x)}. Second structure: {_describe(y)}",
        )


def _same_type(x: Any, x_kind: int, y: Any, y_kind: int) -> bool:
    x_type, y_type = type(x), type(y)
    if x_type is y_type or (x_kind == MAPPING and y_kind == MAPPING):
        return True
    if x_kind == NAMEDTUPLE and y_kind == NAMEDTUPLE:
        return _same_namedtuples(x, y)
    if x_kind >= COMPOSITE and y_kind >= COMPOSITE:
        return x_kind != y_kind  # A composite tensor and a spec; the specs are compared after.
    return isinstance(x, list) and isinstance(y, list)


def _same_namedtuples(x: Any, y: Any) -> bool:
    return x._fields == y._fields and type(x).__name__ == type(y).__name__


def _compare_specs(x: Any, y: Any) -> None:
    specs = [v._type_spec if kind_of(v) == COMPOSITE else v for v in (x, y)]
    try:
        specs[0].most_specific_compatible_type(specs[1])
    except (TypeError, ValueError, AttributeError) as e:
        raise _Mismatch(
            ValueError, f"Incompatible CompositeTensor TypeSpecs: {specs[0]} vs. {specs[1]}: {e}"
        ) from None


def pack_sequence_as(structure: Any, flat_sequence: Any, expand_composites: bool = False) -> Any:
    """Returns a structure like `structure` with the leaves of `flat_sequence`.

    Raises TypeError: `flat_sequence` is not a sequence.  ValueError: it has not as many elements
    as `structure` has leaves.
    """
    top = last_kind(expand_composites)
    if not 0 < kind_of(flat_sequence) <= top:
        raise TypeError(f"flat_sequence must be a sequence, got {flat_sequence!r}")
    leaves = list(flat_sequence)
    if not 0 < kind_of(structure) <= top:
        if len(leaves) != 1:
            raise ValueError(
                f"Structure is a scalar but len(flat_sequence) == {len(leaves)}, which is not 1"
            )
        return leaves[0]
    remaining = iter(leaves)
    try:
        packed = _pack(structure, remaining, top)
        complete = next(remaining, _DOT) is _DOT
    except StopIteration:
        complete = False
    if not complete:
        count = len(flatten(structure, expand_composites))
        raise ValueError(
            f"Could not pack sequence. Structure had {count} elements, but flat_sequence had "
            f"{len(leaves)} elements.  Structure: {structure}, flat_sequence: {flat_sequence}."
        )
    return packed


def _pack(structure: Any, leaves: Iterator, top: int) -> Any:
    children = []
    for child in children_of(structure, kind_of(structure)):
        nested = 0 < kind_of(child) <= top
        children.append(_pack(child, leaves, top) if nested else next(leaves))
    return rebuild(structure, children)


def map_structure(func: Callable, *structure: Any, **kwargs: Any) -> Any:
    """Returns a structure like the first, of `func` called on the corresponding leaves of all.

    kwargs: `check_types` and `expand_composites`, as for `assert_same_structure`.
    Raises TypeError: `func` cannot be called, or types differ.  ValueError: no structure, other
    kwargs, or structures that differ.
    """
    if not callable(func):
        raise TypeError(f"func must be callable, got: {func}")
    if not structure:
        raise ValueError("Must provide at least one structure")
    check_types = kwargs.pop("check_types", True)
    expand_composites = kwargs.pop("expand_composites", False)
    if kwargs:
        raise ValueError(
            "Only valid keyword arguments are `check_types` and `expand_composites`, not: "
            f"`{'`, `'.join(kwargs)}`"
        )
    first = structure[0]
    for other in structure[1:]:
        assert_same_structure(first, other, check_types, expand_composites)
    flat = [flatten(s, expand_composites) for s in structure]
    results = [func(*leaves) for leaves in zip(*flat, strict=True)]
    return pack_sequence_as(first, results, expand_composites)


def flatten_dict_items(dictionary: Mapping) -> dict:
    """Returns a flat dict of `dictionary`, whose keys and values may be structures that match.

    Raises TypeError: not a mapping.  ValueError: a key and its value differ in their number of
    leaves, or a key occurs twice.
    """
    if not isinstance(dictionary, Mapping):
        raise TypeError("input must be a dictionary")
    flat: dict = {}
    for key, value in dictionary.items():
        keys, values = (flatten(key), flatten(value)) if is_nested(key) else ([key], [value])
        if len(keys) != len(values):
            raise ValueError(
                f"Could not flatten dictionary. Key had {len(keys)} elements, but value had "
                f"{len(values)} elements. Key: {keys}, value: {values}."
            )
        for k, v in zip(keys, values, strict=True):
            if k in flat:
                raise ValueError(f"Could not flatten dictionary: key {k} is not unique.")
            flat[k] = v
    return flat


def assert_shallow_structure(
    shallow_tree: Any,
    input_tree: Any,
    check_types: bool = True,
    expand_composites: bool = False,
    check_subtrees_length: bool = True,
) -> None:
    """Raises unless `input_tree` nests at least as deep as `shallow_tree`, and like it up to there.

    check_subtrees_length: lengths must be equal; otherwise the input may be the longer.
    Raises TypeError: types differ, or a leaf where a structure is needed.  ValueError: lengths or
    keys differ.
    """
    top = last_kind(expand_composites)
    _compare_shallow(shallow_tree, input_tree, check_types, check_subtrees_length, top)


def _compare_shallow(
    shallow: Any, deep: Any, check_types: bool, same_length: bool, top: int
) -> None:
    kind, deep_kind = kind_of(shallow), kind_of(deep)
    if not 0 < kind <= top:
        return
    if not 0 < deep_kind <= top:
        raise TypeError(
            "If shallow structure is a sequence, input must also be a sequence. "
            f"Input has type: {type(deep)}."
        )
    same_type = isinstance(deep, type(shallow)) or _same_type(shallow, kind, deep, deep_kind)
    composite = kind >= COMPOSITE or deep_kind >= COMPOSITE
    if (check_types or composite) and not same_type:
        raise TypeError(
            "The two structures don't have the same sequence type. Input structure has type "
            f"{type(deep)}, while shallow structure has type {type(shallow)}."
        )
    if composite:
        try:
            _compare_specs(shallow, deep)
        except _Mismatch as mismatch:
            raise ValueError(mismatch.args[1]) from None
    elif same_length and len(children_of(deep, deep_kind)) != len(children_of(shallow, kind)):
        raise ValueError(
            "The two structures don't have the same sequence length. Input structure has length "
            f"{len(children_of(deep, deep_kind))}, while shallow structure has length "
            f"{len(children_of(shallow, kind))}."
        )
    elif len(children_of(deep, deep_kind)) < len(children_of(shallow, kind)):
        raise ValueError(
            "The input_tree has fewer elements than the shallow_tree. Input structure has length "
            f"{len(children_of(deep, deep_kind))}, while shallow structure has length "
            f"{len(children_of(shallow, kind))}."
        )
    if kind == MAPPING:
        absent = set(shallow) - set(deep)
        if absent:
            raise ValueError(
                "The shallow_tree's keys are not a subset of the input_tree's keys. The "
                "shallow_tree has the following keys that are not in the input_tree: "
                f"{sorted(absent)}."
            )
        pairs = [(shallow[k], deep[k]) for k in sorted_keys(shallow)]
    else:
        pairs = list(zip(children_of(shallow, kind), children_of(deep, deep_kind), strict=False))
    for shallow_child, deep_child in pairs:
        _compare_shallow(shallow_child, deep_child, check_types, same_length, top)


def _walk_up_to(shallow: Any, deep: Any, top: int, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    """Yields the path of every leaf of `shallow`, and what `deep` has there."""
    kind = kind_of(shallow)
    if not 0 < kind <= top:
        yield path, deep
        return
    children = dict(items_of(deep, kind_of(deep)))
    for key, child in items_of(shallow, kind):
        yield from _walk_up_to(child, children[key], top, (*path, key))


def flatten_with_tuple_paths_up_to(
    shallow_tree: Any,
    input_tree: Any,
    check_types: bool = True,
    expand_composites: bool = False,
    check_subtrees_length: bool = True,
) -> list[tuple[Path, Any]]:
    """Returns (path, part of `input_tree`) for every leaf of `shallow_tree`.

    Raises as `assert_shallow_structure` does.
    """
    assert_shallow_structure(
        shallow_tree, input_tree, check_types, expand_composites, check_subtrees_length
    )
    return list(_walk_up_to(shallow_tree, input_tree, last_kind(expand_composites)))


def flatten_up_to(
    shallow_tree: Any,
    input_tree: Any,
    check_types: bool = True,
    expand_composites: bool = False,
    check_subtrees_length: bool = True,
) -> list:
    """Returns the part of `input_tree` at every leaf of `shallow_tree`.

    Raises as `assert_shallow_structure` does.
    """
    pairs = flatten_with_tuple_paths_up_to(
        shallow_tree, input_tree, check_types, expand_composites, check_subtrees_length
    )
    return [part for _, part in pairs]


def map_structure_with_tuple_paths_up_to(
    shallow_tree: Any, func: Callable, *inputs: Any, **kwargs: Any
) -> Any:
    """Returns a structure like `shallow_tree`, of `func(path, *parts)` at each of its leaves.

    kwargs: `check_types`, `expand_composites`, `check_subtrees_length`; the others go to `func`.
    Raises ValueError: no inputs; and as `assert_shallow_structure` does.
    """
    if not inputs:
        raise ValueError("Cannot map over no sequences")
    check_types = kwargs.pop("check_types", True)
    expand_composites = kwargs.pop("expand_composites", False)
    check_subtrees_length = kwargs.pop("check_subtrees_length", True)
    flat = [
        flatten_with_tuple_paths_up_to(
            shallow_tree, i, check_types, expand_composites, check_subtrees_length
        )
        for i in inputs
    ]
    results = [
        func(entries[0][0], *[part for _, part in entries], **kwargs)
        for entries in zip(*flat, strict=True)
    ]
    return pack_sequence_as(shallow_tree, results, expand_composites)


def map_structure_up_to(shallow_tree: Any, func: Callable, *inputs: Any, **kwargs: Any) -> Any:
    """Returns a structure like `shallow_tree`, of `func(*parts)` at each of its leaves.

    kwargs and errors as for `map_structure_with_tuple_paths_up_to`.
    """

    def without_path(_: Path, *parts: Any, **rest: Any) -> Any:
        return func(*parts, **rest)

    return map_structure_with_tuple_paths_up_to(shallow_tree, without_path, *inputs, **kwargs)


def map_structure_with_tuple_paths(func: Callable, *structure: Any, **kwargs: Any) -> Any:
    """Returns a structure like the first, of `func(path, *leaves)`; a path is a tuple of keys."""
    return map_structure_with_tuple_paths_up_to(structure[0], func, *structure, **kwargs)


def map_structure_with_paths(func: Callable, *structure: Any, **kwargs: Any) -> Any:
    """Returns a structure like the first, of `func(path, *leaves)`; a path is text, as "a/0/b"."""

    def with_text(path: Path, *leaves: Any, **rest: Any) -> Any:
        return func("/".join(map(str, path)), *leaves, **rest)

    return map_structure_with_tuple_paths_up_to(structure[0], with_text, *structure, **kwargs)


def yield_flat_paths(nest: Any, expand_composites: bool = False) -> Iterator[Path]:
    """Yields the path of every leaf, a tuple of indices, field names and keys."""
    for path, _ in _walk_up_to(nest, nest, last_kind(expand_composites)):
        yield path


def flatten_with_tuple_paths(
    structure: Any, expand_composites: bool = False
) -> list[tuple[Path, Any]]:
    """Returns (path, leaf) for every leaf."""
    return list(_walk_up_to(structure, structure, last_kind(expand_composites)))


def flatten_with_joined_string_paths(
    structure: Any, separator: str = "/", expand_composites: bool = False
) -> list[tuple[str, Any]]:
    """Returns (path, leaf) for every leaf, the path as text."""
    pairs = flatten_with_tuple_paths(structure, expand_composites)
    return [(separator.join(map(str, path)), leaf) for path, leaf in pairs]


def get_traverse_shallow_structure(
    traverse_fn: Callable, structure: Any, expand_composites: bool = False
) -> Any:
    """Returns a structure of bools that says down to where `traverse_fn` goes into `structure`.

    traverse_fn: takes a part; gives a bool, or a structure of bools for the children of the part.
    Raises TypeError: it gives anything else.
    """
    top = last_kind(expand_composites)
    answer = traverse_fn(structure)
    kind = kind_of(structure)
    if not 0 < kind <= top:
        if not isinstance(answer, bool):
            raise TypeError(
                f"traverse_fn returned structure: {answer} for non-structure: {structure}"
            )
        return answer
    children = children_of(structure, kind)
    if isinstance(answer, bool):
        if not answer:
            return False
        answers: Any = [True] * len(children)
    elif not 0 < kind_of(answer) <= top:
        raise TypeError(f"traverse_fn returned a non-bool scalar: {answer} for input: {structure}")
    else:
        assert_shallow_structure(answer, structure, expand_composites=expand_composites)
        answers = list(children_of(answer, kind_of(answer)))
        if not all(isinstance(a, bool) for a in answers):
            raise TypeError(
                "traverse_fn didn't return a depth=1 structure of bools.  "
                f"saw: {answer}  for structure: {structure}"
            )
    return rebuild(
        structure,
        [
            get_traverse_shallow_structure(traverse_fn, child, expand_composites) if go else False
            for go, child in zip(answers, children, strict=True)
        ],
    )
