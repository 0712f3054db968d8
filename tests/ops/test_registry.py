"""Every op is complete, and its signature is TensorFlow's."""

from __future__ import annotations

import functools

from google.protobuf import text_format
from tensorboard.compat.proto import op_def_pb2

import headrace as tf
from headrace.contrib.seq2seq import gather_tree as gather_tree  # defines an op
from headrace.core import dtypes
from headrace.graph import graph_def
from headrace.graph.op_def import NOT_DIFFERENTIABLE, REGISTRY, Effect
from headrace.ops import graph_test_ops
from tests.conftest import SHARED
from tests.ops.harness import all_cases

TABLE = SHARED / "reference" / "op_defs_v1.15.pbtxt"

# Ops of ours that TensorFlow 1.15 does not have. {op: why}
OWN_OPS: dict[str, str] = {
    **dict.fromkeys(graph_test_ops.NAMES, "in TensorFlow's binary, not in its table of ops"),
    "GatherTree": "in TensorFlow's library of tf.contrib.seq2seq, not in its table of ops",
}
# Ops whose signature differs from TensorFlow's on purpose. {op: why}
DIFFERENT_SIGNATURES: dict[str, str] = {
    "Abs": "TensorFlow 1.15.5 also takes int8 and int16",
    "Equal": "incompatible_shape_error came after the table was made; graphs of 1.15.5 have it",
    "NotEqual": "incompatible_shape_error came after the table was made; graphs of 1.15.5 have it",
}
# Ops that another test than the case tables runs, and which. {op: where}
TESTED_ELSEWHERE: dict[str, str] = {
    **dict.fromkeys(
        ("SaveV2", "MergeV2Checkpoints", "Save", "SaveSlices", "WriteFile"),
        "tests/ops/test_files.py",
    ),
    **dict.fromkeys(
        ("PyFunc", "PyFuncStateless", "Print", "PrintV2", "Assert", "Timestamp"),
        "tests/api/test_python_and_prints.py",
    ),
    **dict.fromkeys(
        (
            "EmptyTensorList TensorListConcatV2 TensorListFromTensor TensorListGather TensorListGetItem TensorListLength "
            "TensorListPopBack TensorListPushBack TensorListReserve TensorListResize TensorListScatter "
            "TensorListScatterIntoExistingList TensorListScatterV2 TensorListSetItem TensorListSplit TensorListStack"
        ).split(),
        "tests/ops/test_tensor_list.py",
    ),
    **dict.fromkeys(
        (
            "Enter Exit LoopCond Merge NextIteration RefEnter RefExit RefMerge RefNextIteration RefSwitch Switch"
        ).split(),
        "tests/runtime/test_flow_steps.py",
    ),
    **dict.fromkeys(
        (
            "Case",
            "If",
            "StatelessIf",
            "While",
            "StatelessWhile",
            "FakeParam",
            "PartitionedCall",
            "StatefulPartitionedCall",
            "OptionalFromValue",
            "OptionalGetValue",
            "OptionalHasValue",
            "OptionalNone",
        ),
        "tests/api/test_switch_case.py, tests/api/test_control_flow.py, tests/api/test_gradient_tape_and_function.py",
    ),
    **dict.fromkeys(
        (
            *(
                "SerializeSparse",
                "SerializeManySparse",
                "DeserializeSparse",
                "DeserializeManySparse",
            ),
            *("AddSparseToTensorsMap", "AddManySparseToTensorsMap", "TakeManySparseFromTensorsMap"),
        ),
        "tests/api/test_sparse.py",
    ),
    **{
        name: "tests/datasets"
        for name, definition in REGISTRY.items()
        if getattr(definition.host_rule, "__module__", "").startswith("headrace.ops.datasets")
    },
    "Const": "tests/api",
    "GatherTree": "tests/contrib/test_seq2seq.py",
    **dict.fromkeys(
        (
            "CudnnRNN CudnnRNNV2 CudnnRNNV3 CudnnRNNBackprop CudnnRNNBackpropV2 CudnnRNNBackpropV3 CudnnRNNParamsSize "
            "CudnnRNNParamsToCanonical CudnnRNNParamsToCanonicalV2 CudnnRNNCanonicalToParams CudnnRNNCanonicalToParamsV2"
        ).split(),
        "tests/contrib/test_cudnn_rnn.py",
    ),
    "Placeholder": "every row feeds some",
    "PlaceholderV2": "a deprecated twin of Placeholder",
    "SymbolicGradient": "tests/api/test_defun.py",
    "VariableV2": "rows of ops with reference arguments make some",
    "VarHandleOp": "rows of ops with resource arguments make some",
    "Variable": "tests/api/test_variables.py",
    "TemporaryVariable": "tests/api/test_variables.py",
    "DestroyResourceOp": "tests/api/test_variables.py",
}


@functools.cache
def reference_ops():
    message = op_def_pb2.OpList()
    text_format.Parse(TABLE.read_text(), message)
    return {op.name: op for op in message.op}


@functools.cache
def ops_with_rows():
    return {case.op for case in all_cases()[0]}


def complaints(name):
    """What an op lacks."""
    if name in graph_test_ops.NAMES:  # nodes without a meaning: tests/graph makes them
        return
    definition = REGISTRY[name]
    no_value = definition.effects & (Effect.HANDLE | Effect.SOURCE)
    if definition.shape_rule is None:
        yield "a shape rule"
    if definition.lower_rule is None and definition.host_rule is None and not no_value:
        yield "a lowering or a host rule"
    if definition.gradient_rule is None:
        yield "a gradient or a declared none"
    if name not in ops_with_rows() and name not in TESTED_ELSEWHERE:
        yield "a row in tests/ops/cases_*.py"
    if definition.effects & Effect.RANDOM and definition.initial_state_rule is None:
        yield "a first state of its generator"
    for argument in (*definition.static_inputs, *definition.writes):
        if argument not in {a.name for a in definition.signature.inputs}:
            yield f"the argument {argument!r} that its record names"


def test_every_op_is_complete():
    wrong = {name: what for name in sorted(REGISTRY) if (what := list(complaints(name)))}
    lines = [f"{name} lacks {', '.join(what)}" for name, what in wrong.items()]
    assert not lines, f"{len(lines)} of {len(REGISTRY)} ops are incomplete:\n" + "\n".join(lines)


def test_exemptions_are_needed():
    listed = {*OWN_OPS, *DIFFERENT_SIGNATURES, *TESTED_ELSEWHERE}
    assert listed <= set(REGISTRY), f"no such ops: {sorted(listed - set(REGISTRY))}"
    assert not set(TESTED_ELSEWHERE) & ops_with_rows()


def arguments(entries):
    return [
        (e.name, e.type, e.type_attr, e.type_list_attr, e.number_attr, e.is_ref) for e in entries
    ]


def same_value(mine, theirs):
    """Whether two AttrValues mean the same: a tensor has several encodings."""
    if mine.HasField("tensor") and theirs.HasField("tensor"):
        a, b = tf.make_ndarray(mine.tensor), tf.make_ndarray(theirs.tensor)
        return a.dtype == b.dtype and a.tolist() == b.tolist()
    return mine == theirs


def attr_differences(mine, theirs):
    """What differs between two attrs."""
    if mine.type != theirs.type:
        yield f"attr {mine.name} is {mine.type}, TensorFlow's is {theirs.type}"
    if mine.HasField("default_value") != theirs.HasField("default_value"):
        yield f"attr {mine.name}: only one has a default"
    elif not same_value(mine.default_value, theirs.default_value):
        a, b = (str(d.default_value).replace("\n", " ") for d in (mine, theirs))
        yield f"attr {mine.name} defaults to {a}, TensorFlow's to {b}"
    if (mine.has_minimum, mine.minimum) != (theirs.has_minimum, theirs.minimum):
        yield f"attr {mine.name}: minimum {mine.minimum}, TensorFlow's {theirs.minimum}"
    a, b = ({*d.allowed_values.list.type} or {*d.allowed_values.list.s} for d in (mine, theirs))
    if a != b:
        names = [dtypes.as_dtype(v).name if isinstance(v, int) else v for v in sorted(b ^ a)]
        yield f"attr {mine.name}: the allowed values differ in {names}"


def differences(mine, theirs):
    """What differs between two signatures."""
    for what in ("input_arg", "output_arg"):
        a, b = arguments(getattr(mine, what)), arguments(getattr(theirs, what))
        if a != b:
            yield f"{what} {a}, TensorFlow's {b}"
    a, b = [d.name for d in mine.attr], [d.name for d in theirs.attr]
    if a != b:
        yield f"attrs {a}, TensorFlow's {b}"
    else:
        for d, e in zip(mine.attr, theirs.attr):
            yield from attr_differences(d, e)
    if mine.is_stateful != theirs.is_stateful:
        yield f"is_stateful is {mine.is_stateful}, TensorFlow's {theirs.is_stateful}"


def test_signatures_are_tensorflows(reference):
    wrong = []
    for name, definition in sorted(REGISTRY.items()):
        if name in OWN_OPS or name in DIFFERENT_SIGNATURES:
            continue
        theirs = reference_ops().get(name)
        if theirs is None:
            wrong.append(f"{name}: TensorFlow has no such op")
            continue
        wrong += [
            f"{name}: {what}" for what in differences(graph_def.op_def_to_proto(definition), theirs)
        ]
    assert not wrong, f"{len(wrong)} differences:\n" + "\n".join(wrong)


def test_a_difference_is_seen(reference):
    mine = graph_def.op_def_to_proto(REGISTRY["MatMul"])
    assert not list(differences(mine, reference_ops()["MatMul"]))
    mine.attr[0].default_value.b = True
    mine.is_stateful = True
    assert len(list(differences(mine, reference_ops()["MatMul"]))) == 2
    del mine.input_arg[0]
    assert len(list(differences(mine, reference_ops()["MatMul"]))) == 3


def test_not_differentiable_is_an_answer():
    assert REGISTRY["StopGradient"].gradient_rule is NOT_DIFFERENTIABLE
    x = tf.constant(1.0)
    assert tf.gradients(tf.stop_gradient(x), x, grad_ys=[tf.constant(1.0)]) == [None]
