"""How the members of a collection become protos in a MetaGraphDef and back, and what import scopes do to names."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

# collection -> (type of the proto, member to proto, proto to member)
_functions: dict[str, tuple[Any, Callable[..., Any] | None, Callable[..., Any] | None]] = {}


def register_proto_function(
    collection_name: str,
    proto_type: Any = None,
    to_proto: Callable[..., Any] | None = None,
    from_proto: Callable[..., Any] | None = None,
) -> None:
    """Says how members of a collection are written to a MetaGraphDef and read back.

    to_proto(member, export_scope=None) -> a proto, or None to leave it out; from_proto(proto, import_scope=None) ->
    member.
    Raises TypeError: not callable.
    """
    if to_proto is not None and not callable(to_proto):
        raise TypeError("to_proto must be callable.")
    if from_proto is not None and not callable(from_proto):
        raise TypeError("from_proto must be callable.")
    _functions[collection_name] = (proto_type, to_proto, from_proto)


def get_collection_proto_type(collection_name: str) -> Any:
    """The registered proto type of a collection, or None."""
    return _functions.get(collection_name, (None, None, None))[0]


def get_to_proto_function(collection_name: str) -> Callable[..., Any] | None:
    """The registered function from members to protos, or None."""
    return _functions.get(collection_name, (None, None, None))[1]


def get_from_proto_function(collection_name: str) -> Callable[..., Any] | None:
    """The registered function from protos to members, or None."""
    return _functions.get(collection_name, (None, None, None))[2]


def prepend_name_scope(name: str, import_scope: str | None) -> str:
    """The name that a node `name` has after an import under `import_scope`."""
    if not import_scope:
        return name
    scope = import_scope.rstrip("/")
    return re.sub(r"^((?:loc:@|\^)?)", lambda match: f"{match.group(1)}{scope}/", name, count=1)


def strip_name_scope(name: str, export_scope: str | None) -> str:
    """The name that a node `name` has after an export of `export_scope`."""
    if not export_scope:
        return name
    scope = re.escape(export_scope.rstrip("/"))
    return re.sub(rf"^((?:loc:@|\^)?){scope}/(.*)", r"\1\2", name, count=1)
