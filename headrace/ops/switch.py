"""Old control flow as nodes: Switch and Merge, and what loops are made of (Enter, Exit, NextIteration, LoopCond).

`tf.cond` and `tf.while_loop` make functions instead. Programs that build such nodes themselves get them run by
`runtime/flow_step.py`, which knows which tensors are dead; so there is no rule here that computes anything.
"""

from __future__ import annotations

from headrace.core import errors
from headrace.graph import raw, shapes
from headrace.graph.op_def import Flow, define

# ---- Switch: its input comes out on one side; the other output is dead

_SWITCH = "{0}, pred: bool -> output_false: {1}, output_true: {1}"
switch = define("Switch", _SWITCH.format("data: T", "T"), "T: type", flow=Flow.SWITCH)
ref_switch = define(
    "RefSwitch", _SWITCH.format("data: Ref(T)", "Ref(T)"), "T: type", flow=Flow.SWITCH
)


@ref_switch.shape
@switch.shape
def _switch_shape(op, data, pred):
    shapes.with_rank(op, pred, 0, "pred")
    return [data, data]


@ref_switch.gradient
@switch.gradient
def _switch_gradient(op, dfalse, dtrue):
    data, pred = op.inputs
    dfalse, dtrue = (raw.ZerosLike(data) if d is None else d for d in (dfalse, dtrue))
    sides = [raw.Switch(dfalse, pred)[0], raw.Switch(dtrue, pred)[1]]
    return raw.Merge(sides)[0], None


# ---- Merge: the first of its inputs that comes, and which it is

merge = define(
    "Merge", "inputs: N*T -> output: T, value_index: int32", "T: type, N: int >= 1", flow=Flow.MERGE
)
ref_merge = define(
    "RefMerge",
    "inputs: Ref(N*T) -> output: Ref(T), value_index: int32",
    "T: type, N: int >= 1",
    flow=Flow.MERGE,
)


@ref_merge.shape
@merge.shape
def _merge_shape(op, inputs):
    if None in inputs or len({len(d) for d in inputs}) != 1:
        return [None, ()]
    sizes = zip(*inputs, strict=True)
    return [tuple(s[0] if len(set(s)) == 1 else None for s in sizes), ()]


@ref_merge.gradient
@merge.gradient
def _merge_gradient(op, dy, dindex):
    if dy is None:
        return [None] * len(op.inputs)
    taken = op.outputs[1]
    return [raw.Switch(dy, raw.Equal(taken, i))[1] for i in range(len(op.inputs))]


# ---- Enter, Exit, NextIteration, LoopCond: the nodes of a loop

_ENTER = "T: type, frame_name: string, is_constant: bool = false, parallel_iterations: int = 10"
enter = define("Enter", "data: T -> output: T", _ENTER, flow=Flow.ENTER)
ref_enter = define("RefEnter", "data: Ref(T) -> output: Ref(T)", _ENTER, flow=Flow.ENTER)
leave = define("Exit", "data: T -> output: T", "T: type", flow=Flow.EXIT)
ref_leave = define("RefExit", "data: Ref(T) -> output: Ref(T)", "T: type", flow=Flow.EXIT)
next_iteration = define("NextIteration", "data: T -> output: T", "T: type", flow=Flow.NEXT)
ref_next_iteration = define(
    "RefNextIteration", "data: Ref(T) -> output: Ref(T)", "T: type", flow=Flow.NEXT
)
loop_cond = define("LoopCond", "input: bool -> output: bool", flow=Flow.PASS)


@ref_enter.shape
@enter.shape
def _enter_shape(op, data):
    # What changes from iteration to iteration may change its shape.
    return data if op.attr("is_constant") else None


@loop_cond.shape
@ref_next_iteration.shape
@next_iteration.shape
@ref_leave.shape
@leave.shape
def _same_shape(op, data):
    return data


def _loop_gradient(op, dy):
    raise op.type_error("a loop made of Enter and Exit nodes has no gradient: use tf.while_loop.")


for _definition in (enter, ref_enter, leave, ref_leave, next_iteration, ref_next_iteration):
    _definition.gradient(_loop_gradient)
loop_cond.not_differentiable()


def _only_in_graphs(op, *arguments):
    raise errors.UnimplementedError(
        None,
        op,
        f"{op.type} op {op._name!r} is inside of a function, or of a partial run; it runs in graphs: use tf.cond and "
        "tf.while_loop",
    )


for _definition in (
    *(switch, ref_switch, merge, ref_merge, enter, ref_enter, leave, ref_leave),
    *(next_iteration, ref_next_iteration, loop_cond),
):
    _definition.host(_only_in_graphs)
