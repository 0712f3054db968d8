"""One op type, complete: its signature and its rules, and the registry `name -> OpDef`.

The signature strings are TensorFlow's own notation for ops, so that they can be compared with its tables:

    cumsum = define(
        "Cumsum",
        "x: T, axis: Tidx -> out: T",
        "exclusive: bool = false, reverse: bool = false, T: {numeric}, Tidx: {int32, int64} = int32",
        static_inputs=("axis",),
    )
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from headrace.core import dtypes
from headrace.core.dtypes import DType


class Effect:
    """What an op does besides computing outputs from inputs: bits of an int.

    Plain ints: every node that is added or planned is asked, and `enum.Flag` takes a microsecond for `&`.
    """

    NONE = 0
    STATEFUL = 1 << 0  # TensorFlow calls it stateful: never folded, never merged with its twin
    RANDOM = 1 << 1  # draws from a generator that the session keeps; rules get it as first value
    FALLIBLE = 1 << 2  # can fail on the values of its inputs (Assert, CheckNumerics)
    INTEGER_FALLIBLE = 1 << 3  # FALLIBLE where its inputs are integers (division by zero)
    HANDLE = 1 << 4  # makes a reference or a resource handle; has no value of its own
    SOURCE = 1 << 5  # has a value only when fed (Placeholder)


class Flow:
    """How an op moves tensors that may be dead, or between frames of a loop; what other ops get from dead tensors is dead."""

    NONE = ""
    SWITCH = "switch"  # the output that the predicate does not choose is dead
    MERGE = "merge"  # takes the first input that is not dead
    ENTER = "enter"  # into the first iteration of a frame
    EXIT = "exit"  # out of a frame
    NEXT = "next"  # into the next iteration
    PASS = "pass"  # its input as it is


# Effects of ops that may still be computed ahead: a failure is then met where it would have been.
MAY_FAIL = Effect.FALLIBLE | Effect.INTEGER_FALLIBLE

PADDED = "_padded"
"""An attr (one that TensorFlow passes over) of a node whose output's length depends on values: where it is set, those who
use the output do not mind more rows, which name no row of theirs. The node then need not run on the host."""


@dataclass(frozen=True, slots=True)
class ArgSpec:
    """One input or output argument of a signature."""

    name: str
    dtype: DType | None  # fixed type
    type_attr: str | None  # attr that holds the type
    type_list_attr: str | None  # attr that holds one type for each of several tensors
    number_attr: str | None  # attr that holds how many tensors of one type
    is_ref: bool

    @property
    def is_list(self) -> bool:
        """Whether it may be several tensors."""
        return self.number_attr is not None or self.type_list_attr is not None

    def count(self, attrs: Mapping[str, Any]) -> int:
        """How many tensors the argument is in a node with these attrs."""
        if self.number_attr is not None:
            return attrs[self.number_attr]
        return 1 if self.type_list_attr is None else len(attrs[self.type_list_attr])


@dataclass(frozen=True, slots=True)
class AttrSpec:
    """One attr of a signature.

    `kind` is TensorFlow's: int, float, bool, string, type, shape, tensor, func, list(...).
    """

    name: str
    kind: str
    default: Any
    has_default: bool
    allowed: tuple[Any, ...] | None
    minimum: int | None


@dataclass(frozen=True, slots=True)
class Signature:
    """A parsed signature. `inferred` are the attrs that follow from the inputs."""

    inputs: tuple[ArgSpec, ...]
    outputs: tuple[ArgSpec, ...]
    attrs: dict[str, AttrSpec]
    inferred: frozenset[str]
    parameters: tuple[str, ...]  # inputs, then attrs that must be given, then those with a default


# Named groups of types for the `{...}` of an attr.
_FLOATS = ("bfloat16", "half", "float", "double")
_INTS = ("uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64")
_REAL = (
    "float",
    "double",
    "int32",
    "uint8",
    "int16",
    "int8",
    "int64",
    "bfloat16",
    "uint16",
    "half",
)
_REAL += ("uint32", "uint64")
_QUANTIZED = ("qint8", "quint8", "qint32", "qint16", "quint16")
TYPE_GROUPS: dict[str, tuple[str, ...]] = {
    "floating": _FLOATS,
    "integer": _INTS,
    "real": _REAL,
    "complex": ("complex64", "complex128"),
    "quantized": _QUANTIZED,
    "numeric": (*_REAL, "complex64", "complex128", *_QUANTIZED[:3]),
    "index": ("int32", "int64"),
}


class SignatureError(ValueError):
    """A signature string that does not parse."""


def _split(text: str) -> list[str]:
    """Splits at the commas that stand outside brackets and quotes."""
    parts, depth, quoted, start = [], 0, "", 0
    for i, c in enumerate(text):
        if quoted:
            quoted = "" if c == quoted else quoted
        elif c in "'\"":
            quoted = c
        elif c in "{[(":
            depth += 1
        elif c in "}])":
            depth -= 1
        elif c == "," and not depth:
            parts.append(text[start:i].strip())
            start = i + 1
    last = text[start:].strip()
    return [*parts, last] if last else parts


def _parse_arg(text: str, attr_kinds: dict[str, str]) -> ArgSpec:
    name, _, kind = (part.strip() for part in text.partition(":"))
    is_ref = kind.startswith("Ref(")
    if is_ref:
        kind = kind[4:-1].strip()
    number, star, element = kind.partition("*")
    if star:
        number, kind = number.strip(), element.strip()
    else:
        number = None
    if kind in attr_kinds:
        if attr_kinds[kind] == "list(type)":
            return ArgSpec(name, None, None, kind, None, is_ref)
        return ArgSpec(name, None, kind, None, number, is_ref)
    return ArgSpec(name, dtypes.as_dtype(kind), None, None, number, is_ref)


def _parse_allowed(text: str) -> tuple[str, tuple[Any, ...]]:
    """The kind and the values of `{float32, numeric}` or `{'SAME', 'VALID'}`."""
    items = _split(text[1:-1])
    if items and items[0][0] in "'\"":
        return "string", tuple(item[1:-1] for item in items)
    names: list[str] = []
    for item in items:
        names += TYPE_GROUPS.get(item, (item,))
    return "type", tuple(dict.fromkeys(dtypes.as_dtype(n) for n in names))


def _parse_value(kind: str, text: str) -> Any:
    text = text.strip()
    if kind.startswith("list("):
        return [_parse_value(kind[5:-1], item) for item in _split(text[1:-1])]
    if kind == "type":
        return dtypes.as_dtype(text.removeprefix("DT_").lower())
    if kind == "int":
        return int(text)
    if kind == "float":
        return float(text)
    if kind == "bool":
        return {"true": True, "false": False}[text.lower()]
    if kind == "string":
        return text[1:-1].encode().decode("unicode_escape")
    if kind == "shape":
        if text in ("?", "<unknown>"):
            return None
        return tuple(None if d == "?" else int(d) for d in _split(text[1:-1]))
    if kind == "tensor":  # a vector: `uint8[255, 0, 0, 255]`
        import numpy as np

        from headrace.graph.attr_value import TensorValue

        dtype_name, _, items = text.partition("[")
        dtype = dtypes.as_dtype(dtype_name)
        return TensorValue(
            np.array([float(v) for v in _split(items[:-1])]).astype(dtype.np_dtype), dtype
        )
    raise SignatureError(f"no notation for a default of kind {kind}: {text!r}")


_ATTR = re.compile(
    r"^(?P<name>\w+)\s*:\s*(?P<kind>\{.*?\}|list\((?:\{.*?\}|\w+)\)|\w+)"
    r"(?:\s*>=\s*(?P<minimum>-?\d+))?(?:\s*=\s*(?P<default>.+))?$",
    re.S,
)


def _parse_attr(text: str) -> AttrSpec:
    match = _ATTR.match(text)
    if not match:
        raise SignatureError(f"not an attr: {text!r}")
    kind, allowed = match["kind"], None
    if kind.startswith("{"):
        kind, allowed = _parse_allowed(kind)
    elif kind.startswith("list({"):
        kind, allowed = _parse_allowed(kind[5:-1])
        kind = f"list({kind})"
    default, has_default = None, match["default"] is not None
    if has_default:
        default = _parse_value(kind, match["default"])
    minimum = int(match["minimum"]) if match["minimum"] is not None else None
    return AttrSpec(match["name"], kind, default, has_default, allowed, minimum)


def parse_signature(arguments: str, attrs: str) -> Signature:
    """Parses `"x: T, axis: Tidx -> out: T"` and `"T: {numeric}, Tidx: {int32, int64} = int32"`."""
    specs = {spec.name: spec for spec in map(_parse_attr, _split(attrs))}
    kinds = {name: spec.kind for name, spec in specs.items()}
    before, arrow, after = arguments.partition("->")
    if not arrow:
        raise SignatureError(f"no '->' in {arguments!r}")
    inputs = tuple(_parse_arg(a, kinds) for a in _split(before))
    outputs = tuple(_parse_arg(a, kinds) for a in _split(after))
    inferred = frozenset(
        attr for a in inputs for attr in (a.type_attr, a.type_list_attr, a.number_attr) if attr
    )
    given = [s.name for s in specs.values() if s.name not in inferred]
    parameters = tuple(a.name for a in inputs)
    parameters += tuple(n for n in given if not specs[n].has_default)
    parameters += tuple(n for n in given if specs[n].has_default)
    return Signature(inputs, outputs, specs, inferred, parameters)


class _NotDifferentiable:
    """The declared answer "has no gradient", told apart from a rule that is missing."""

    def __repr__(self) -> str:
        return "NOT_DIFFERENTIABLE"


NOT_DIFFERENTIABLE = _NotDifferentiable()


class OpDef:
    """The record of one op type. Rules are attached by decorators, in the order define, shape, lower, host, gradient.

    shape(op, *input_dims)   -> dims of the output, or a list of them; dims: tuple of int or None, None: unknown rank
    lower(op, *values)       -> output value(s) in JAX; values that are static are NumPy arrays
    host(op, *values)        -> output value(s) in NumPy: strings, files, small values, ops that XLA cannot hold
    gradient(op, *grads)     -> one gradient (or None) for each input; builds nodes

    Two more, for ops whose value follows from static shapes, or that pass parts of a shape on:
    static(op)               -> the outputs' values known from the inputs' static shapes, or None
    partial(op)              -> the output, a vector of sizes, as far as known: list of int or None, or None
    and one for ops with Effect.RANDOM: initial_state(op) -> the generator's state in a new session (an array)

    Two for ops whose demands depend on the node (a slice that starts anywhere but has a fixed size):
    facts(op)                -> something hashable that `lower` finds as `op.facts`: what the graph knows besides attrs
    needs_static(op)         -> which of `static_inputs` this node really needs

    and two for ops that call functions. derived(op, function) -> the function that is made from it, where that is what is called
    (a gradient).  demand(op, outputs, needs) -> (inputs, outputs): what runs that ask for some outputs take of the op, by place
    among what its functions get and give; needs(attr, i, outputs) says which inputs its i-th function `attr` takes for some of
    its outputs (None: all). Without the rule such a run takes all.

    Two for ops that one call computes together with those that alone use their output. start(op, *values) -> the output as
    something that is yet to be computed and can grow (`native.Unfinished`), or None. extend(op, unfinished, *others) -> what
    the op makes of such a thing, or None; it stands for the argument at one of `extends`, the others follow in order

    One for ops that NumPy has not, or is slow at: native(op, *values) -> output value(s), of NumPy arrays of any size, by
    code that is compiled already; None for what there is none for

    One for ops with a variadic argument that means a collective where the argument is one value on each of several devices:
    across(op, axis, *values) -> the output, the same on all of them; `axis` names the devices in JAX, and the value of the
    device stands for the list
    """

    __slots__ = (
        "_function_attrs",
        "_signature",
        "across_rule",
        "arguments",
        "attr_text",
        "checked_inputs",
        "demand_rule",
        "derived_rule",
        "dynamic_shape",
        "effects",
        "extend_rule",
        "extends",
        "facts_rule",
        "flow",
        "gradient_rule",
        "host_is_slow",
        "host_only",
        "host_rule",
        "initial_state_rule",
        "is_sum",
        "keeps_functions",
        "known_strings",
        "lower_rule",
        "lowers_if",
        "name",
        "native_rule",
        "needs_static_rule",
        "overwrites",
        "partial_rule",
        "shape_rule",
        "start_rule",
        "static_inputs",
        "static_rule",
        "waits",
        "writes",
    )

    def __init__(
        self,
        name: str,
        arguments: str,
        attrs: str,
        static_inputs: tuple[str, ...],
        effects: int,
        host_only: bool,
        dynamic_shape: bool,
        writes: tuple[str, ...],
        overwrites: tuple[str, ...],
        checked_inputs: tuple[str, ...],
        known_strings: bool,
        waits: bool = False,
        flow: str = Flow.NONE,
        keeps_functions: bool = False,
        lowers_if: Callable[[], bool] | None = None,
    ) -> None:
        self.name = name
        self.arguments = arguments
        self.attr_text = attrs
        self.static_inputs = static_inputs
        self.effects = effects
        self.host_only = host_only
        self.dynamic_shape = dynamic_shape
        self.writes = writes
        self.overwrites = overwrites
        self.checked_inputs = checked_inputs
        self.known_strings = known_strings
        self.waits = waits
        self.flow = flow
        self.keeps_functions = keeps_functions
        self.lowers_if = lowers_if
        self.shape_rule: Callable[..., Any] | None = None
        self.lower_rule: Callable[..., Any] | None = None
        self.host_rule: Callable[..., Any] | None = None
        self.gradient_rule: Callable[..., Any] | _NotDifferentiable | None = None
        self.static_rule: Callable[..., Any] | None = None
        self.partial_rule: Callable[..., Any] | None = None
        self.initial_state_rule: Callable[..., Any] | None = None
        self.facts_rule: Callable[..., Any] | None = None
        self.needs_static_rule: Callable[..., Any] | None = None
        self.derived_rule: Callable[..., Any] | None = None
        self.demand_rule: Callable[..., Any] | None = None
        self.native_rule: Callable[..., Any] | None = None
        self.across_rule: Callable[..., Any] | None = None
        self.start_rule: Callable[..., Any] | None = None
        self.extend_rule: Callable[..., Any] | None = None
        self.extends: tuple[int, ...] = ()
        self.host_is_slow = False
        self.is_sum = False
        self._signature: Signature | None = None
        self._function_attrs: tuple[str, ...] | None = None

    @property
    def signature(self) -> Signature:
        """The parsed signature (parsed when it is first asked for: importing stays cheap)."""
        if self._signature is None:
            self._signature = parse_signature(self.arguments, self.attr_text)
        return self._signature

    def shape(self, rule: Callable[..., Any]) -> Callable[..., Any]:
        """Attaches the rule for the static shapes of the outputs."""
        self.shape_rule = rule
        return rule

    def lower(self, rule: Callable[..., Any]) -> Callable[..., Any]:
        """Attaches the rule that computes the outputs with JAX."""
        self.lower_rule = rule
        return rule

    def host(self, rule: Callable[..., Any]) -> Callable[..., Any]:
        """Attaches the rule that computes the outputs with NumPy."""
        self.host_rule = rule
        return rule

    def gradient(self, rule: Callable[..., Any]) -> Callable[..., Any]:
        """Attaches the rule that builds the gradient."""
        self.gradient_rule = rule
        return rule

    def static(self, rule: Callable[..., Any]) -> Callable[..., Any]:
        """Attaches the rule for values that follow from static shapes."""
        self.static_rule = rule
        return rule

    def partial(self, rule: Callable[..., Any]) -> Callable[..., Any]:
        """Attaches the rule for a partly known vector of sizes."""
        self.partial_rule = rule
        return rule

    def initial_state(self, rule: Callable[..., Any]) -> Callable[..., Any]:
        """Attaches the rule for the first state of the generator of a random op."""
        self.initial_state_rule = rule
        return rule

    def facts(self, rule: Callable[..., Any]) -> Callable[..., Any]:
        """Attaches the rule for what `lower` needs to know of the graph besides attrs: something hashable."""
        self.facts_rule = rule
        return rule

    def needs_static(self, rule: Callable[..., Any]) -> Callable[..., Any]:
        """Attaches the rule for which of the `static_inputs` a node needs."""
        self.needs_static_rule = rule
        return rule

    def derived(self, rule: Callable[..., Any]) -> Callable[..., Any]:
        """Attaches the rule for which function a node calls in place of the one that its attr names."""
        self.derived_rule = rule
        return rule

    def demand(self, rule: Callable[..., Any]) -> Callable[..., Any]:
        """Attaches the rule for what a run that asks for some outputs takes of a node that calls functions."""
        self.demand_rule = rule
        return rule

    def native(self, rule: Callable[..., Any]) -> Callable[..., Any]:
        """Attaches the rule that computes the outputs by kernels of the host, where it has them."""
        self.native_rule = rule
        return rule

    def start(self, rule: Callable[..., Any]) -> Callable[..., Any]:
        """Attaches the rule that gives the output as something that is yet to be computed."""
        self.start_rule = rule
        return rule

    def extend(self, *places: int) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        """Attaches the rule for what is yet to be computed at one of these places among the inputs."""

        def attach(rule: Callable[..., Any]) -> Callable[..., Any]:
            self.extend_rule, self.extends = rule, places
            return rule

        return attach

    def across(self, rule: Callable[..., Any]) -> Callable[..., Any]:
        """Attaches the rule for a variadic argument that is one value on each of several devices."""
        self.across_rule = rule
        return rule

    def static_inputs_of(self, op: Any) -> tuple[str, ...]:
        """The arguments of `op`, of this type, whose value decides a shape."""
        return self.static_inputs if self.needs_static_rule is None else self.needs_static_rule(op)

    def not_differentiable(self) -> OpDef:
        """Declares that gradients stop here."""
        self.gradient_rule = NOT_DIFFERENTIABLE
        return self

    def adds_up(self) -> OpDef:
        """Declares that the op adds up, or multiplies, many terms, which NumPy does in another order than XLA."""
        self.is_sum = True
        return self

    def slow_on_host(self) -> OpDef:
        """Declares that the NumPy rule is for few elements: it takes tens of nanoseconds or more for each."""
        self.host_is_slow = True
        return self

    def may_fail(self, op: Any) -> bool:
        """Whether `op`, of this type, can fail on the values of its inputs once its program is built."""
        if self.effects & Effect.INTEGER_FALLIBLE:
            from headrace.graph.constant_value import constant_value

            # What is wrong with a known divisor or exponent is found when the program is built.
            return op._inputs[1]._dtype.is_integer and constant_value(op._inputs[1]) is None
        return bool(self.effects & Effect.FALLIBLE)

    @property
    def function_attrs(self) -> tuple[str, ...]:
        """The attrs that name functions which the op calls."""
        if self._function_attrs is None:
            calls = "func" in self.attr_text and not self.keeps_functions
            found = self.signature.attrs.values() if calls else ()
            self._function_attrs = tuple(s.name for s in found if "func" in s.kind)
        return self._function_attrs

    @property
    def is_stateful(self) -> bool:
        """Whether TensorFlow marks the op as stateful."""
        return bool(self.effects & Effect.STATEFUL)

    def __repr__(self) -> str:
        return f"<OpDef {self.name}: {self.arguments}>"


REGISTRY: dict[str, OpDef] = {}


def define(
    name: str,
    arguments: str,
    attrs: str = "",
    *,
    static_inputs: Sequence[str] = (),
    effects: int = Effect.NONE,
    host_only: bool = False,
    dynamic_shape: bool = False,
    writes: Sequence[str] = (),
    overwrites: Sequence[str] = (),
    checked_inputs: Sequence[str] = (),
    known_strings: bool = False,
    waits: bool = False,
    flow: str = Flow.NONE,
    keeps_functions: bool = False,
    lowers_if: Callable[[], bool] | None = None,
) -> OpDef:
    """Registers an op type and returns its record, to which the rules are then attached.

    static_inputs: arguments whose value decides an output's shape; rules get them as NumPy arrays.
    host_only: the op has no `lower`; it runs on the host, between compiled islands.
    dynamic_shape: an output's shape depends on values (Where, Unique); runs on the host unless all is static.
    writes: reference or resource arguments that the op writes; overwrites: those that it writes without reading.
    checked_inputs: for Effect.FALLIBLE, the arguments whose values can make it fail; none given: any of them.
    known_strings: `lower` takes strings that are constants of the graph (messages).
    waits: the host rule may take any time (a function of the program, a queue); it does so in `context.call_out`.
    flow: a node of old control flow; runs with such nodes are those of `runtime/flow_step.py`.
    keeps_functions: the functions that its attrs name are not called by the op: it hands them on, with variables that they use.
    lowers_if: says whether `lower` can be used here; where it cannot, the op runs on the host.
    Raises ValueError: the name is taken.
    """
    if name in REGISTRY:
        raise ValueError(f"op {name} is defined twice")
    definition = OpDef(
        name,
        arguments,
        attrs,
        tuple(static_inputs),
        effects,
        host_only,
        dynamic_shape,
        tuple(writes) + tuple(overwrites),
        tuple(overwrites),
        tuple(checked_inputs),
        known_strings,
        waits,
        flow,
        keeps_functions,
        lowers_if,
    )
    REGISTRY[name] = definition
    return definition


def lookup(name: str) -> OpDef:
    """The record of an op type. Raises LookupError: there is none of this name."""
    try:
        return REGISTRY[name]
    except KeyError:
        raise LookupError(f"op type {name!r} is not registered") from None
