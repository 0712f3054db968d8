"""What a run lacks: a value for a placeholder, or of a variable."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from headrace.core import dtypes, errors
from headrace.graph.op_def import Effect
from headrace.graph.operation import Operation
from headrace.graph.tensor import Tensor


def check_fed(ops: Iterable[Operation], step: Sequence[Operation], fed: frozenset[Tensor]) -> None:
    """Raises InvalidArgumentError: one of `ops`, of the operations of a step, is a placeholder that is not fed."""
    for op in ops:
        if op._definition.effects & Effect.SOURCE and op._definition.lower_rule is None:
            for tensor in op._outputs:
                if tensor not in fed:
                    raise errors.InvalidArgumentError(None, op, _unfed(tensor, step))


def _unfed(tensor: Tensor, step: Sequence[Operation]) -> str:
    shape = tensor._dims
    sizes = ",".join("?" if d is None else str(d) for d in shape or ())
    described = f" and shape [{sizes}]" if shape else ""
    kind = tensor._dtype.name.replace("float32", "float").replace("float64", "double")
    user = next((op for op in step if tensor in op._inputs), None)
    needed = ""
    if user is not None:
        needed = f": {user.type} op {user._name!r} needs it, and feed_dict does not have it"
    return (
        f"You must feed a value for placeholder tensor '{tensor._op._name}' with dtype {kind}"
        f"{described}{needed}"
    )


def uninitialised(op: Operation | None, key: str) -> errors.FailedPreconditionError:
    """The error for reading a variable that has no value yet; `op` is what reads it."""
    container, _, name = key.rpartition("|")
    if op is not None and any(t._dtype is dtypes.resource for t in op._inputs):
        message = (
            f"Error while reading resource variable {name} from Container: {container or 'localhost'}. "
            "This could mean that the variable was uninitialized. "
            f"Not found: Resource {container or 'localhost'}/{name}/N10tensorflow3VarE does not exist"
        )
    else:
        message = f"Attempting to use uninitialized value {name}"
    return errors.FailedPreconditionError(
        None,
        op,
        f"{message}: run its initializer (or tf.global_variables_initializer()), or restore it, in this session first",
    )
