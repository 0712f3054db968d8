"""Chooses the operations that may compute in 16 bits (automatic mixed precision).

The rules are those of TensorFlow's graph rewrite (Micikevicius et al., "Mixed Precision Training", 2018): products and
convolutions are always chosen; sums of many numbers, exponentials and losses never, nor what follows from them; what lies
between is chosen where that saves a conversion.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass

from headrace.core import dtypes
from headrace.graph.func_graph import FuncGraph, functions_of
from headrace.graph.operation import Operation
from headrace.graph.tensor import Tensor


@dataclass(frozen=True, slots=True)
class Narrowed:
    """How one operation changes: the names of the arguments, and the type that these get."""

    arguments: frozenset[str]
    dtype: dtypes.DType


# The operations that compute in 16 bits.
Narrow = Mapping[Operation, Narrowed]

# Safe in 16 bits, and most of the work: always chosen.
ALLOWED = frozenset(
    """
    BatchMatMul BatchMatMulV2 BlockLSTM BlockLSTMGrad BlockLSTMGradV2 BlockLSTMV2 Conv2D Conv2DBackpropFilter
    Conv2DBackpropInput Conv3D Conv3DBackpropFilter Conv3DBackpropFilterV2 Conv3DBackpropInput Conv3DBackpropInputV2
    CudnnRNN CudnnRNNBackprop CudnnRNNBackpropV2 CudnnRNNBackpropV3 CudnnRNNV2 CudnnRNNV3 DepthwiseConv2dNative
    DepthwiseConv2dNativeBackpropFilter DepthwiseConv2dNativeBackpropInput Einsum GRUBlockCell GRUBlockCellGrad
    LSTMBlockCell LSTMBlockCellGrad MatMul
    """.split()
)

# Safe, unless what comes in is not.
INFERRED = frozenset(
    """
    Add AddN AddV2 AvgPool AvgPool3D AvgPool3DGrad AvgPoolGrad BiasAdd BiasAddGrad BiasAddV1 Elu EluGrad Erf Erfc
    FloorDiv FusedBatchNorm FusedBatchNormGrad FusedBatchNormGradV2 FusedBatchNormGradV3 FusedBatchNormV2
    FusedBatchNormV3 Inv LeakyRelu LeakyReluGrad Log Log1p LogSoftmax Mul Prod RealDiv Reciprocal Sigmoid SigmoidGrad
    Softmax Softplus SoftplusGrad Sqrt Sub Tanh TanhGrad
    """.split()
)

# Unsafe, and so is what is computed from their results.
DENIED = frozenset(
    """
    Exp Expm1 L2Loss Mean Pow SaveV2 SoftmaxCrossEntropyWithLogits SparseSoftmaxCrossEntropyWithLogits Sum
    """.split()
)

# They move numbers, or compare them: as safe as their neighbours.
CLEAR = frozenset(
    """
    Abs ArgMax ArgMin BatchToSpace BatchToSpaceND BroadcastTo Ceil CheckNumerics ClipByValue Concat ConcatV2
    DepthToSpace DynamicPartition DynamicStitch EnsureShape Equal ExpandDims Fill Floor Gather GatherNd GatherV2
    Greater GreaterEqual Identity IdentityN IsFinite IsInf IsNan Less LessEqual Max MaxPool MaxPool3D MaxPool3DGrad
    MaxPool3DGradGrad MaxPoolGrad MaxPoolGradGrad MaxPoolGradGradV2 MaxPoolGradV2 MaxPoolV2 Maximum Min Minimum
    MirrorPad MirrorPadGrad Neg NotEqual OneHot OnesLike Pack Pad PadV2 PreventGradient Rank Relu Relu6 Relu6Grad
    ReluGrad Reshape ResizeNearestNeighbor ResizeNearestNeighborGrad Reverse ReverseSequence ReverseV2 Round Select
    Shape ShapeN Sign Size Slice Snapshot SpaceToBatch SpaceToBatchND SpaceToDepth Split SplitV Squeeze StopGradient
    StridedSlice StridedSliceGrad Tile TopK TopKV2 Transpose Where ZerosLike
    """.split()
)

# Set to False by `auto_mixed_precision_scope`: the operation stays as it is.
INCLUDE_ATTR = "_AutoMixedPrecisionScopeInclude"


# TensorFlow replaces these by their second versions, where the numbers of the batch have a type of their own.
_FIRST_VERSIONS = {
    "FusedBatchNorm": frozenset({"x", "y"}),
    "FusedBatchNormGrad": frozenset({"y_backprop", "x", "x_backprop"}),
}


def arguments_to_narrow(op: Operation, to: dtypes.DType) -> frozenset[str]:
    """The inputs and outputs of `op` that are float32 and may be `to`; empty where there are none."""
    if op.type in _FIRST_VERSIONS:
        return _FIRST_VERSIONS[op.type] if op._attrs.get("T") == dtypes.float32 else frozenset()
    signature = op._definition.signature
    for name, spec in signature.attrs.items():
        if spec.kind == "type" and op._attrs.get(name) == dtypes.float32:
            if spec.allowed is None or to.name in {dtypes.as_dtype(t).name for t in spec.allowed}:
                return frozenset(
                    a.name for a in (*signature.inputs, *signature.outputs) if a.type_attr == name
                )
    return frozenset()


def choose(
    ops: Sequence[Operation],
    keep: Iterable[Operation],
    there: Set[Operation],
    to: dtypes.DType,
) -> dict[Operation, Narrowed]:
    """The operations that are to compute in `to`, those of functions too.

    keep: operations that stay as they are, those that are fetched. there: those of `ops` that are where the type is fast; a
    function is where its call is.
    """
    chosen = _Choice(ops, set(keep), there, to).chosen
    seen: set[FuncGraph] = set()
    calls = [op for op in ops if op in there and op._definition.function_attrs]
    while calls:
        for _, function in functions_of(calls.pop()):
            if function.graph not in seen:
                seen.add(function.graph)
                body = function.graph.get_operations()
                kept = {t._op for t in function.graph.outputs}
                chosen |= _Choice(body, kept, set(body), to).chosen
                calls += [op for op in body if op._definition.function_attrs]
    return chosen


class _Choice:
    """The choice among the operations of one graph."""

    def __init__(
        self,
        ops: Sequence[Operation],
        keep: set[Operation],
        there: Set[Operation],
        to: dtypes.DType,
    ) -> None:
        self._ops = ops
        self._sources = {op: {t._op for t in op._inputs if _is_float(t)} for op in ops}
        self._users: dict[Operation, set[Operation]] = {op: set() for op in ops}
        for op, sources in self._sources.items():
            for source in sources & self._users.keys():
                self._users[source].add(op)
        listed = ALLOWED | INFERRED | CLEAR
        self._narrow: dict[Operation, Narrowed] = {}
        for op in ops:
            may_change = op.type in listed and op not in keep and op in there
            if may_change and op._attrs.get(INCLUDE_ATTR) is not False:
                names = arguments_to_narrow(op, to)
                if names:
                    self._narrow[op] = Narrowed(names, to)
        self.chosen = self._choose()

    def _choose(self) -> dict[Operation, Narrowed]:
        denied = self._denied()
        allowed = {op for op in self._narrow if op.type in ALLOWED}
        after = self._reached(
            allowed,
            self._users,
            lambda op: op.type not in ALLOWED and op in self._narrow and op not in denied,
        )
        chosen = self._reached(allowed, self._sources, after.__contains__)
        around = {op: self._sources[op] | self._users[op] for op in self._ops}
        chosen = self._reached(
            chosen,
            around,
            lambda op: (
                op.type in CLEAR
                and op in self._narrow
                and op not in denied
                and not self._reads_variable(op)
            ),
        )
        return {op: self._narrow[op] for op in self._ops if op in chosen}

    def _denied(self) -> set[Operation]:
        """Unsafe operations, and those that see their results and are no better than these."""
        sensitive = [op for op in self._ops if op.type in DENIED or op.type in INFERRED]
        leads_there = self._reached(sensitive, self._sources, lambda op: op.type in CLEAR)
        denied = [op for op in self._ops if op.type in DENIED]
        return self._reached(denied, self._users, leads_there.__contains__)

    def _reads_variable(self, op: Operation) -> bool:
        """Whether `op` is the read of a variable, which summaries and others look at."""
        return op.type == "Identity" and op._inputs[0]._dtype.is_ref_dtype

    def _reached(
        self,
        roots: Iterable[Operation],
        edges: dict[Operation, set[Operation]],
        enters: Callable[[Operation], bool],
    ) -> set[Operation]:
        """`roots`, and what can be reached from them through operations that `enters` lets in."""
        found = set(roots)
        left = list(found)
        while left:
            for op in edges.get(left.pop(), ()):
                if op not in found and op in self._users and enters(op):
                    found.add(op)
                    left.append(op)
        return found


def _is_float(tensor: Tensor) -> bool:
    return tensor._dtype.base_dtype == dtypes.float32
