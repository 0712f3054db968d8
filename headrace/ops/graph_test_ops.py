"""Ops without a meaning: TensorFlow ships them so that tests and tools of graphs have nodes of every kind of signature.

Programs that test importers, device functions or gradients make them by name (`graph.create_op("FloatOutput", ...)`).
They have no value, so a run that needs one fails, and no gradient but what such a program registers.
"""

from __future__ import annotations

from headrace.graph import shapes
from headrace.graph.graph import VERSION
from headrace.graph.op_def import Effect, define

_SIGNATURES = {
    "None": "->",
    "A": "-> out: float32",
    "B": "-> out: float32",
    "Foo1": "a: float32, b: int32, c: int32 -> d: float32, e: int32",
    "Foo2": "a: float32, b: string, c: string -> d: float32, e: int32",
    "Foo3": "a: float32, b: string, c: float32 -> d: float32, e: int32",
    "IntOutput": "-> a: int32",
    "Int64Output": "-> out: int64",
    "RefOutput": "-> a: Ref(int32)",
    "FloatOutput": "-> a: float32",
    "TwoFloatOutputs": "-> a: float32, b: float32",
    "FiveFloatOutputs": "-> a: float32, b: float32, c: float32, d: float32, e: float32",
    "RefOutputFloatOutput": "-> a: Ref(float32), b: float32",
    "RefInputFloatInput": "a: Ref(float32), b: float32 ->",
    "IntInput": "a: int32 ->",
    "IntInputIntOutput": "a: int32 -> b: int32",
    "FloatInput": "a: float32 ->",
    "TwoIntOutputs": "-> a: int32, b: int32",
    "IntOutputFloatOutput": "-> a: int32, b: float32",
    "FloatOutputStringOutput": "-> a: float32, b: string",
    "TwoIntInputs": "a: int32, b: int32 ->",
    "TwoFloatInputs": "a: float32, b: float32 ->",
    "IntInputFloatInput": "a: int32, b: float32 ->",
    "RefInputIntInput": "a: Ref(int32), b: int32 ->",
    "TwoFloatInputsFloatOutput": "a: float32, b: float32 -> c: float32",
    "TwoFloatInputsIntOutput": "a: float32, b: float32 -> c: int32",
    "RefInputFloatInputIntOutput": "a: Ref(float32), b: float32 -> c: int32",
    "Simple": "a: int32 -> out: float32",
    "ReservedInput": "input: int32 ->",
    "TestStringOutput": "input: float32 -> output1: float32, output2: string",
    "OpWithFutureDefaultAttr": "->",
}
_SIGNATURES_WITH_ATTRS = {
    "CopyOp": ("a: T -> b: T", "T: type"),
    "Unary": ("a: T -> b: T", "T: type"),
    "OutT": ("-> a: T", "T: type"),
    "TestAttr": ("-> out: T", "T: {float, double}"),
    "Polymorphic": ("a: T -> out: T", "T: type"),
    "PolymorphicOut": ("-> out: T", "T: type"),
    "PolymorphicDefaultOut": ("-> out: T", "T: type = DT_STRING"),
    "Binary": ("a: T, b: T -> out: T", "T: type"),
    "Restrict": ("a: T -> out: T", "T: {string, bool}"),
    "ListInput": ("a: N * T ->", "N: int >= 1, T: type"),
    "ListOutput": ("-> a: T", "T: list(type) >= 1"),
    "TypeList": ("a: T ->", "T: list(type) >= 0"),
    "TypeListTwice": ("a: T, b: T ->", "T: list(type) >= 0"),
    "OutTypeList": ("-> out: T", "T: list(type) >= 0"),
    "TypeListRestrict": ("a: T ->", "T: list({string, bool})"),
    "OutTypeListRestrict": ("-> out: t", "t: list({string, bool})"),
    "OpWithDefaultAttr": ("-> a: int32", "default_float: float = 123.0"),
    "IntAttr": ("-> out: int64", "foo: int = 1"),
    "StringListAttr": ("->", "a: list(string), b: string"),
    "FuncAttr": ("->", "f: func"),
    "FuncListAttr": ("->", "f: list(func)"),
    "Attr": ("->", "a: int"),
    "AttrFloat": ("->", "a: float"),
    "AttrBool": ("->", "a: bool"),
    "AttrBoolList": ("->", "a: list(bool)"),
    "AttrMin": ("->", "a: int >= 5"),
    "AttrListMin": ("->", "a: list(int) >= 2"),
    "AttrEnum": ("->", "a: {'apples', 'oranges'}"),
    "AttrEnumList": ("->", "a: list({'apples', 'oranges'})"),
    "AttrShape": ("->", "a: shape"),
    "AttrShapeList": ("->", "a: list(shape)"),
    "AttrPartialShape": ("->", "a: shape"),
    "AttrPartialShapeList": ("->", "a: list(shape)"),
    "AttrDefault": ("->", "a: string = 'banana'"),
    "AttrListDefault": ("->", "a: list(int) = [5, 15]"),
    "AttrEmptyListDefault": ("->", "a: list(float) = []"),
    "ReservedAttr": ("->", "range: int"),
    "AttrTypeDefault": ("a: T ->", "T: type = DT_INT32"),
    "AttrListTypeDefault": ("a: N * T, b: N * T ->", "T: type = DT_INT32, N: int"),
    "NIntsIn": ("a: N * int32 ->", "N: int >= 2"),
    "NPolymorphicIn": ("a: N * T ->", "T: type, N: int >= 2"),
    "NPolymorphicRestrictIn": ("a: N * T ->", "T: {string, bool}, N: int >= 2"),
    "NInTwice": ("a: N * int32, b: N * string ->", "N: int >= 0"),
    "NInPolymorphicTwice": ("a: N * T, b: N * T ->", "T: type, N: int >= 0"),
    "NInTwoTypeVariables": ("a: N * S, b: N * T ->", "S: type, T: type, N: int >= 0"),
    "InPolymorphicTwice": ("a: N * T, b: M * T ->", "T: type, N: int >= 0, M: int >= 0"),
    "NIntsOut": ("-> a: N * int32", "N: int >= 2"),
    "NIntsOutDefault": ("-> a: N * int32", "N: int >= 2 = 3"),
    "NPolymorphicOut": ("-> a: N * T", "T: type, N: int >= 2"),
    "NPolymorphicOutDefault": ("-> a: N * T", "T: type = DT_BOOL, N: int >= 2 = 2"),
    "NPolymorphicRestrictOut": ("-> a: N * T", "T: {string, bool}, N: int >= 2"),
    "RefIn": ("a: Ref(T) ->", "T: type"),
    "TwoRefsIn": ("a: Ref(T), b: Ref(T) ->", "T: type"),
    "RefOut": ("-> a: Ref(T)", "T: type"),
    "SimpleStruct": ("-> a: n_a * int32", "n_a: int >= 0"),
    "MixedStruct": ("-> a: n_a * int32, b: float32", "n_a: int >= 0"),
    "ComplexStruct": (
        "-> a: n_a * int32, b: n_b * int64, c: t_c",
        "n_a: int >= 0, n_b: int >= 0, t_c: list(type) >= 0",
    ),
}

NAMES = (*_SIGNATURES, *_SIGNATURES_WITH_ATTRS, "RequiresOlderGraphVersion")

for _name, _arguments in _SIGNATURES.items():
    define(_name, _arguments, host_only=True).shape(shapes.unknown)
for _name, (_arguments, _attrs) in _SIGNATURES_WITH_ATTRS.items():
    define(_name, _arguments, _attrs, host_only=True).shape(shapes.unknown)

# ---- RequiresOlderGraphVersion: a shape rule that depends on the version of the GraphDef

requires_older_graph_version = define(
    "RequiresOlderGraphVersion", "-> version: int32", effects=Effect.STATEFUL, host_only=True
)


@requires_older_graph_version.shape
def _requires_older_graph_version_shape(op):
    version = op.graph.graph_def_versions.producer
    if version != VERSION - 1:
        raise op.error(f"Wrong graph version for shape: needs {VERSION - 1}, got {version}.")
    return ()
