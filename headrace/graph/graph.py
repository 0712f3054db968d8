"""The graph: operations by name, the scopes under which new ones are made, collections."""

from __future__ import annotations

import contextlib
import re
import threading
from collections.abc import Iterator, Sequence
from typing import Any

from headrace.core import site
from headrace.core.dtypes import DType
from headrace.graph import default
from headrace.graph.elements import find_element
from headrace.graph.op_def import OpDef, lookup
from headrace.graph.operation import Operation, infer_shapes
from headrace.graph.scopes import ControlDependencies, DeviceScope, NameScope, Replaced, Scopes
from headrace.graph.tensor import Tensor

TENSORFLOW_VERSION = "1.15.5"
"""The TensorFlow whose graphs these are."""
VERSION = 134
"""The version of GraphDef that is written, and the newest that is read."""
VERSION_MIN_PRODUCER = 0
"""The oldest version of GraphDef that is read."""

_VALID_OP_NAME = re.compile(r"^[A-Za-z0-9.][A-Za-z0-9_.\-/]*$")
_VALID_SCOPE_NAME = re.compile(r"^[A-Za-z0-9_.\-/]*$")


class Graph:
    """A dataflow graph: operations (nodes) and tensors (edges), plus collections of anything by name.

    Operations are added through the functions of the API while the graph is the default one (`as_default`), and
    never change or go; sessions may run it while it grows. Adding is thread-safe.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._operations: list[Operation] = []
        self._by_name: dict[str, Operation] = {}
        self._names_in_use: dict[str, int] = {}
        self._collections: dict[Any, list[Any]] = {}
        self._scopes = Scopes()
        self._finalized = False
        self._seed: int | None = None
        self._unfeedable: set[Any] = set()
        self._unfetchable: set[Any] = set()
        self._mutations = 0  # changes of existing nodes, which make sessions plan again
        self._version_of_shapes = 0
        self._functions: dict[str, Any] = {}
        self._producer = VERSION
        self._min_consumer = 0
        self._building_function = False
        # The names of nodes that an import has put into functions, or left out.
        self._left_out: set[str] = set()
        # Operations with an input that was changed to another type: an error when they run.
        self._invalid_edges: dict[Operation, str] = {}

    # ---- adding operations

    def add_operation(
        self,
        definition: OpDef,
        inputs: list[Tensor],
        attrs: dict[str, Any],
        output_types: Sequence[DType],
        name: str,
    ) -> Operation:
        """Adds a node. `attrs` is complete and `name` is final; scopes of device, control and colocation apply."""
        if self._finalized:
            raise _finalized(definition, name)
        scopes = self._scopes
        with self._lock:
            control = self._control_inputs_for(inputs) if scopes.control else []
            op = Operation(self, definition, name, inputs, attrs, output_types, control, "")
            if scopes.attrs:
                for key, value in scopes.attrs.items():
                    if key == "_class" and scopes.colocation:
                        continue  # colocation overrules it
                    value = value(op) if callable(value) else value
                    if value is not None:
                        attrs.setdefault(key, value)
            if scopes.gradient_overrides and definition.name in scopes.gradient_overrides:
                attrs["_gradient_op_type"] = scopes.gradient_overrides[definition.name]
            if scopes.container and definition.is_stateful and attrs.get("container") == "":
                attrs["container"] = scopes.container
            op._gradient_function = scopes.gradient_functions.get(definition.name)
            op._original_op = scopes.original_op
            op._scope_entries = (scopes.devices, scopes.colocation)
            op._control_flow_context = scopes.control_flow_context
            if scopes.colocation:
                self._apply_colocation(op)
            if scopes.devices and not op._device:
                self._apply_devices(op)
            infer_shapes(op)
            self._insert(op)
        if scopes.control:
            for controller in scopes.control:
                controller.seen.add(op)
        return op

    def add_imported(
        self,
        definition: OpDef,
        inputs: list[Tensor],
        attrs: dict[str, Any],
        output_types: Sequence[DType],
        name: str,
        control_inputs: list[Operation],
    ) -> Operation:
        """Adds a node as a GraphDef has it: of the scopes, only control dependencies apply to it."""
        if self._finalized:
            raise _finalized(definition, name)
        scopes = self._scopes
        control = list(dict.fromkeys([*control_inputs, *self._control_inputs_for(inputs)]))
        op = Operation(self, definition, name, inputs, attrs, output_types, control, "")
        op._control_flow_context = scopes.control_flow_context
        infer_shapes(op)
        self._insert(op)
        for controller in scopes.control:
            controller.seen.add(op)
        return op

    def _insert(self, op: Operation) -> None:
        if op._name in self._by_name:
            raise ValueError(f"Duplicate node name in graph: {op._name!r}")
        op._id = len(self._operations) + 1
        self._operations.append(op)
        self._by_name[op._name] = op
        self._names_in_use.setdefault(op._name.lower(), 1)
        for tensor in op._inputs:
            tensor._consumers.append(op)
        for before in op._control_inputs:
            before._note_control_output(op)

    def _control_inputs_for(self, inputs: list[Tensor]) -> list[Operation]:
        found: list[Operation] = []
        input_ops = {t._op for t in inputs}
        for controller in self._scopes.control:
            # An input that already waits for this block's control inputs makes the edge superfluous.
            if not controller.seen.isdisjoint(input_ops):
                continue
            for op in controller.control_inputs:
                if op not in input_ops and op not in found:
                    found.append(op)
        return found

    def _apply_devices(self, op: Operation) -> None:
        for entry in reversed(self._scopes.devices):
            if entry.function is None:
                break
            op._set_device(entry.function(op) or "")

    def _apply_colocation(self, op: Operation) -> None:
        groups: set[str] = set()
        for other, _ in reversed(self._scopes.colocation):
            groups.update(g.decode() for g in other.colocation_groups())
            op._device = other._device or op._device
        op._attrs["_class"] = sorted({*op._attrs.get("_class", ()), *groups})

    def create_op(
        self,
        op_type: str,
        inputs: Sequence[Tensor],
        dtypes: Sequence[Any] | None = None,
        input_types: Any = None,
        name: str | None = None,
        attrs: dict[str, Any] | None = None,
        op_def: Any = None,
        compute_shapes: bool = True,
        compute_device: bool = True,
    ) -> Operation:
        """Adds a node from its parts, as importers do; `attrs` values are AttrValue protos.

        Raises TypeError: an input is not a Tensor. ValueError: inputs or attrs do not fit the op type.
        """
        from headrace.graph import attr_value, raw

        for i, tensor in enumerate(inputs):
            if not isinstance(tensor, Tensor):
                raise TypeError(f"Input #{i} is not a tensor: {tensor}")
        definition = lookup(op_type)
        values = {k: attr_value.from_proto(v) for k, v in (attrs or {}).items()}
        return raw.build_from_parts(self, definition, list(inputs), values, name, dtypes)

    # ---- names

    def unique_name(self, name: str, mark_as_used: bool = True) -> str:
        """`name` under the current scope, with `_1`, `_2`, ... where it is taken (case does not count)."""
        if name.__class__ is bytes:
            name = name.decode()  # type: ignore[union-attr]
        stack = self._scopes.name
        if stack:
            name = f"{stack}/{name}"
        used = self._names_in_use
        key = name.lower()
        with self._lock:
            count = used.get(key, 0)
            if mark_as_used:
                used[key] = count + 1
            if count:
                base = key
                while key in used:
                    key = f"{base}_{count}"
                    count += 1
                if mark_as_used:
                    used[key] = 1
                name = f"{name}_{count - 1}"
        return name

    def name_scope(self, name: str | None) -> contextlib.AbstractContextManager[str]:
        """A block whose operations are named `name/...`; a name that ends in "/" is entered again as it is.

        Yields the scope with its "/". Raises ValueError: not a valid scope name.
        """
        return NameScope(self, name)

    def _enter_name(self, name: str | None) -> str:
        """The new name stack for a scope `name`. Raises TypeError: not a string. ValueError: not a valid name."""
        if name.__class__ is bytes:
            name = name.decode()
        if name is not None and not isinstance(name, str):
            raise TypeError(f"name must be a string, got {name!r}")
        if name:
            pattern = _VALID_SCOPE_NAME if self._scopes.name else _VALID_OP_NAME
            if not pattern.match(name):
                raise ValueError(f"'{name}' is not a valid scope name")
        if not name:
            return ""
        if name[-1] == "/":
            return name[:-1]
        return self.unique_name(name)

    def get_name_scope(self) -> str:
        """The current scope, without a "/" at the end; "" outside all scopes."""
        return self._scopes.name

    # ---- scopes

    def as_default(self) -> contextlib.AbstractContextManager[Graph]:
        """A block in which this graph is the default one of this thread."""
        return default.graph_as_default(self)

    @contextlib.contextmanager
    def control_dependencies(self, control_inputs: Any) -> Iterator[None]:
        """A block whose new operations run after `control_inputs` (operations or tensors); None lifts all of them."""
        scopes = self._scopes
        if control_inputs is None:
            block = ControlDependencies(None)
        else:
            ops: list[Operation] = []
            for item in control_inputs:
                element = self.as_graph_element(getattr(item, "_values_for_control", item))
                op = element._op if isinstance(element, Tensor) else element
                if op not in ops:
                    ops.append(op)
            block = ControlDependencies(ops)
        if block.is_new_stack:
            block.old_stack, scopes.control = scopes.control, []
            block.old_context, scopes.control_flow_context = scopes.control_flow_context, None
        scopes.control = [*scopes.control, block]
        try:
            yield
        finally:
            scopes.control = scopes.control[:-1]
            if block.is_new_stack:
                scopes.control = block.old_stack or []
                scopes.control_flow_context = block.old_context

    def device(self, device_name_or_function: Any) -> contextlib.AbstractContextManager[None]:
        """A block whose new operations ask for a device: a name, a DeviceSpec, a function of the operation, or None.

        Inner blocks fill in or override outer ones; None ignores the outer ones.
        Leaving a block before one that was entered later raises RuntimeError.
        """
        return DeviceScope(self._scopes, device_name_or_function)

    def colocate_with(
        self, op: Any, ignore_existing: bool = False
    ) -> contextlib.AbstractContextManager[None]:
        """A block whose new operations are placed where `op` is; None with ignore_existing leaves all such blocks.

        Raises ValueError: None without ignore_existing.
        """
        if op is None and not ignore_existing:
            raise ValueError(
                "Trying to reset colocation (op is None) but ignore_existing is not True"
            )
        return self._colocated(
            self._operation_of(op) if op is not None else None, ignore_existing, site.capture()
        )

    @contextlib.contextmanager
    def _colocated(
        self, anchor: Operation | None, ignore_existing: bool, where: site.Site
    ) -> Iterator[None]:
        scopes = self._scopes
        kept = [] if ignore_existing else scopes.colocation
        colocation = kept if anchor is None else [*kept, (anchor, where)]
        # Colocation overrules the device blocks around it.
        with Replaced(scopes, devices=[], colocation=colocation):
            yield

    def _operation_of(self, value: Any) -> Operation:
        value = getattr(value, "op", value)
        if isinstance(value, Operation):
            return value
        element = self.as_graph_element(value)
        return element._op if isinstance(element, Tensor) else element

    @contextlib.contextmanager
    def container(self, container_name: str) -> Iterator[str]:
        """A block whose new variables and queues live in the resource container of this name."""
        with Replaced(self._scopes, container=container_name):
            yield container_name

    @property
    def _container(self) -> str:
        return self._scopes.container

    @contextlib.contextmanager
    def gradient_override_map(self, op_type_map: dict[str, str]) -> Iterator[None]:
        """A block in which the gradient of an op type is the one registered under another name."""
        if not isinstance(op_type_map, dict):
            raise TypeError("op_type_map must be a dictionary mapping strings to strings")
        for key, value in op_type_map.items():
            if not isinstance(key, str) or not isinstance(value, str):
                raise TypeError("op_type_map must be a dictionary mapping strings to strings")
        scopes = self._scopes
        overrides = {**scopes.gradient_overrides, **op_type_map}
        with Replaced(scopes, gradient_overrides=overrides):
            yield

    @contextlib.contextmanager
    def _override_gradient_function(self, functions: dict[str, Any]) -> Iterator[None]:
        """As `gradient_override_map`, with the functions themselves."""
        scopes = self._scopes
        with Replaced(scopes, gradient_functions={**scopes.gradient_functions, **functions}):
            yield

    @contextlib.contextmanager
    def _attr_scope(self, attr_map: dict[str, Any]) -> Iterator[None]:
        """A block whose new operations carry these attrs (AttrValue protos, None to take one away)."""
        from headrace.graph import attr_value

        merged = dict(self._scopes.attrs)
        for key, value in attr_map.items():
            if value is None:
                merged.pop(key, None)
            else:
                merged[key] = value if callable(value) else attr_value.from_proto(value)
        with Replaced(self._scopes, attrs=merged):
            yield

    def _kernel_label_map(self, op_to_kernel_label_map: dict[str, str]) -> Any:
        """A block whose new operations of these types carry the attr `_kernel`; each type has one kernel here."""
        return self._attr_scope(
            {"_kernel": lambda op: op_to_kernel_label_map.get(op.type)}
            if op_to_kernel_label_map
            else {}
        )

    def _original_op_scope(self, op: Operation) -> contextlib.AbstractContextManager[None]:
        """A block whose new operations are made on behalf of `op` (its gradient)."""
        return Replaced(self._scopes, original_op=op)

    def switch_to_thread_local(self) -> None:
        """Kept for programs that call it: scopes belong to the thread that enters them already."""

    @property
    def _variable_creator_stack(self) -> list[Any]:
        """What stands between `tf.Variable` and the making of variables in this thread, the innermost last."""
        return self._scopes.variable_creators

    @_variable_creator_stack.setter
    def _variable_creator_stack(self, creators: list[Any]) -> None:
        self._scopes.variable_creators = creators

    def _get_control_flow_context(self) -> Any:
        return self._scopes.control_flow_context

    def _set_control_flow_context(self, context: Any) -> None:
        self._scopes.control_flow_context = context

    # ---- finding elements

    def as_graph_element(
        self, obj: Any, allow_tensor: bool = True, allow_operation: bool = True
    ) -> Any:
        """The Tensor or Operation that `obj` names or is.

        Raises TypeError: neither. ValueError: of another graph. KeyError: no such name.
        """
        return find_element(self, obj, allow_tensor, allow_operation)

    def get_operations(self) -> list[Operation]:
        """All operations, in the order in which they were made."""
        return list(self._operations)

    def get_operation_by_name(self, name: str) -> Operation:
        """The operation of this name. Raises KeyError: there is none. TypeError: not a string."""
        if not isinstance(name, str):
            raise TypeError(f"Operation names are strings (or similar), not {type(name).__name__}.")
        return self.as_graph_element(name, allow_tensor=False, allow_operation=True)

    def get_tensor_by_name(self, name: str) -> Tensor:
        """The tensor `op:index`. Raises KeyError: there is none. ValueError: not of this form."""
        if not isinstance(name, str):
            raise TypeError(f"Tensor names are strings (or similar), not {type(name).__name__}.")
        return self.as_graph_element(name, allow_tensor=True, allow_operation=False)

    def _get_operation_by_name_unsafe(self, name: str) -> Operation:
        return self._by_name[name]

    # ---- collections

    def add_to_collection(self, name: Any, value: Any) -> None:
        """Appends `value` to the collection `name`."""
        self._check_not_finalized()
        with self._lock:
            self._collections.setdefault(name, []).append(value)

    def add_to_collections(self, names: Any, value: Any) -> None:
        """Appends `value` to several collections, to each once."""
        names = (names,) if isinstance(names, str) else dict.fromkeys(names)
        for name in names:
            self.add_to_collection(name, value)

    def get_collection(self, name: Any, scope: str | None = None) -> list[Any]:
        """A copy of the collection; with `scope` those whose name matches it (`re.match`)."""
        with self._lock:
            items = list(self._collections.get(name, ()))
        if scope is None:
            return items
        pattern = re.compile(scope)
        return [item for item in items if hasattr(item, "name") and pattern.match(item.name)]

    def get_collection_ref(self, name: Any) -> list[Any]:
        """The collection itself, made where there is none; changes are seen by all."""
        with self._lock:
            return self._collections.setdefault(name, [])

    def get_all_collection_keys(self) -> list[str]:
        """The names of the collections (those that are strings)."""
        with self._lock:
            return [key for key in self._collections if isinstance(key, str)]

    @property
    def collections(self) -> list[str]:
        """The names of the collections."""
        return self.get_all_collection_keys()

    def clear_collection(self, name: Any) -> None:
        """Empties the collection."""
        self._check_not_finalized()
        with self._lock:
            self._collections.pop(name, None)

    # ---- state of the whole

    def finalize(self) -> None:
        """Makes the graph read-only."""
        self._finalized = True

    def _unsafe_unfinalize(self) -> None:
        self._finalized = False

    @property
    def finalized(self) -> bool:
        """Whether the graph is read-only."""
        return self._finalized

    def _check_not_finalized(self) -> None:
        if self._finalized:
            raise RuntimeError("Graph is finalized and cannot be modified.")

    @property
    def version(self) -> int:
        """A number that grows with every operation."""
        return len(self._operations)

    @property
    def _last_id(self) -> int:
        return len(self._operations)

    @property
    def building_function(self) -> bool:
        """Whether this graph is the body of a function."""
        return self._building_function

    @property
    def seed(self) -> int | None:
        """The graph-level seed of random operations."""
        return self._seed

    @seed.setter
    def seed(self, seed: int | None) -> None:
        self._seed = seed

    @property
    def graph_def_versions(self) -> Any:
        """The GraphDef versions (producer, min_consumer) as a VersionDef proto."""
        from tensorboard.compat.proto import versions_pb2

        return versions_pb2.VersionDef(producer=self._producer, min_consumer=self._min_consumer)

    def as_graph_def(self, from_version: int | None = None, add_shapes: bool = False) -> Any:
        """The graph as a GraphDef proto; `from_version`: only operations newer than that `version`."""
        from headrace.graph import graph_def

        return graph_def.to_graph_def(self, from_version, add_shapes)

    def prevent_feeding(self, tensor: Tensor) -> None:
        """Forbids feeding `tensor`."""
        self._unfeedable.add(tensor)

    def is_feedable(self, tensor: Tensor) -> bool:
        """Whether `tensor` may be fed."""
        return tensor not in self._unfeedable

    def prevent_fetching(self, op: Operation) -> None:
        """Forbids fetching `op`."""
        self._unfetchable.add(op)

    def is_fetchable(self, tensor_or_op: Any) -> bool:
        """Whether a tensor or operation may be fetched."""
        op = tensor_or_op._op if isinstance(tensor_or_op, Tensor) else tensor_or_op
        return op not in self._unfetchable

    def _add_function(self, function: Any) -> None:
        """Adds a function definition to the graph's library."""
        self._functions[function.name] = function

    def _get_function(self, name: str) -> Any:
        return self._functions.get(name)

    def _is_function(self, name: str) -> bool:
        return name in self._functions


def _finalized(definition: OpDef, name: str) -> RuntimeError:
    """The error for adding a node to a graph that a session or a Supervisor has frozen."""
    return RuntimeError(
        f"Graph is finalized and cannot be modified. ({definition.name} op {name!r} cannot be added.)"
    )
