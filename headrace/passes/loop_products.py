"""Finds the matrix products in the body of a loop that need not be made one iteration at a time.

A recurrent network multiplies matrices of a few rows in every iteration. Three kinds of products can wait for the rows of
all iterations, or be made for all of them before: one product of many rows, which is several times as fast.

- `InputProduct`: an element of a list that does not change, times a matrix that does not (`x_t W`, or `[x_t, h] W`).
- `WeightGradient`: a sum over the iterations of `a_t' b_t` with `a_t` taken from the end of a list.
- `InputGradient`: a product whose result is only added to a list of gradients (`dz_t W'`).

This is what hand-written recurrent kernels do (Appleyard et al., "Optimizing Performance of Recurrent Neural Networks on
GPUs", 2016, sections 3.2 and 3.4).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from headrace.graph.constant_value import constant_value
from headrace.graph.func_graph import FuncGraph
from headrace.graph.operation import Operation
from headrace.graph.tensor import Tensor

_SUMS = frozenset({"AddN", "Add", "AddV2"})


@dataclass(frozen=True)
class Part:
    """Some rows of the right factor of a product: from `start` on, `size` of them, or all (None)."""

    start: int
    size: int | None


@dataclass(frozen=True)
class InputProduct:
    """`product`: MatMul of elements of lists beside other columns; `reads`: which rows the elements are multiplied by."""

    product: Operation
    reads: list[tuple[Part, Operation]]
    rest: list[tuple[Part, Tensor]]


@dataclass(frozen=True)
class WeightGradient:
    """The loop variable at `place` is a sum: `adder` adds `products`, each with the pop that gives its left factor."""

    place: int
    adder: Operation
    products: list[tuple[Operation, Operation]]


@dataclass(frozen=True)
class InputGradient:
    """The list at `place` is a sum: `adder` adds to its element `index` the `terms`: rows of a product's result."""

    place: int
    adder: Operation
    index: Tensor
    terms: list[tuple[Operation, Part]]
    through: list[Operation]


@dataclass
class LoopProducts:
    """The products of one body. split: SplitV of a product of which some parts are in `input_gradients`."""

    inputs: list[InputProduct] = field(default_factory=list)
    weights: list[WeightGradient] = field(default_factory=list)
    input_gradients: list[InputGradient] = field(default_factory=list)
    splits: dict[Operation, list[Part | None]] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.inputs or self.weights or self.input_gradients)


class _Body:
    """A body with the uses of its tensors among the operations that run."""

    def __init__(self, graph: FuncGraph, ops: Sequence[Operation], condition: FuncGraph) -> None:
        self.graph, self.ops, self.condition = graph, ops, condition
        self.users: dict[Tensor, list[Operation]] = {}
        for op in ops:
            for tensor in op._inputs:
                self.users.setdefault(tensor, []).append(op)
        self.places = {t: i for i, t in enumerate(graph.inputs)}
        self.returned = set(graph.outputs)
        self.running = set(ops)

    def only_user(self, tensor: Tensor) -> Operation | None:
        """The operation that alone uses `tensor`, else None."""
        users = self.users.get(tensor, ())
        return users[0] if len(users) == 1 and tensor not in self.returned else None

    def is_fixed(self, tensor: Tensor) -> bool:
        """Whether `tensor` is a loop variable that the body passes on unchanged."""
        place = self.places.get(tensor)
        return place is not None and self.graph.outputs[place] is tensor

    def terms_of(self, tensor: Tensor) -> list[Tensor]:
        """What a tensor is the sum of; only sums that nobody else sees are taken apart."""
        op = tensor._op
        if op in self.running and op.type in _SUMS and len(set(op._inputs)) == len(op._inputs):
            if tensor in self.returned or self.only_user(tensor) is not None:
                return list(op._inputs)
        return [tensor]

    def carried_by(self, tensor: Tensor) -> int | None:
        """The loop variable that `tensor` is the value of at the start of the iteration, if nobody else asks for it."""
        while tensor not in self.places:
            op = tensor._op
            if op.type != "Identity" or self.only_user(tensor) is None:
                return None
            tensor = op._inputs[0]
        place = self.places[tensor]
        alone = len(self.users.get(tensor, ())) == 1 and tensor not in self.returned
        if not alone or self.condition.inputs[place]._consumers:
            return None
        return None if self.condition.inputs[place] in self.condition.outputs else place


def find_loop_products(
    body: FuncGraph, condition: FuncGraph, ops: Sequence[Operation]
) -> LoopProducts:
    """The products in `body`, of which the operations `ops` run (in this order)."""
    view = _Body(body, ops, condition)
    found = LoopProducts()
    for place, output in enumerate(body.outputs):
        adder = output._op
        if adder not in view.running or adder.type not in _SUMS:
            continue
        if sum(t is output for t in body.outputs) > 1 or view.users.get(output):
            continue
        carried = [t for t in adder._inputs if view.carried_by(t) == place]
        if len(carried) != 1:
            continue
        others = [t for t in adder._inputs if t is not carried[0]]
        _add_sum(view, found, place, adder, others)
    for op in ops:
        if op.type == "MatMul" and not op.attr("transpose_a"):
            _add_input_product(view, found, op)
    return found


def _add_sum(
    view: _Body, found: LoopProducts, place: int, adder: Operation, others: list[Tensor]
) -> None:
    products = []
    for term in others:
        pop = _popped_factor(view, term)
        if pop is not None:
            products.append((term._op, pop))
    if products:
        found.weights.append(WeightGradient(place, adder, products))
    elif len(others) == 1 and others[0]._op.type == "TensorListSetItem":
        _add_input_gradient(view, found, place, adder, others[0]._op)


def _popped_factor(view: _Body, term: Tensor) -> Operation | None:
    """The TensorListPopBack that gives `a` of a term `a' b`, if the term is one."""
    op = term._op
    if op not in view.running or op.type != "MatMul" or view.only_user(term) is None:
        return None
    if not op.attr("transpose_a") or op.attr("transpose_b"):
        return None
    pop = op._inputs[0]._op
    if pop.type != "TensorListPopBack" or op._inputs[0] is not pop._outputs[1]:
        return None
    place = view.places.get(pop._inputs[0])
    if place is None or view.graph.outputs[place] is not pop._outputs[0]:
        return None
    return pop


def _add_input_gradient(
    view: _Body, found: LoopProducts, place: int, adder: Operation, setter: Operation
) -> None:
    """Notes that `adder` only collects products in a list, if that is so."""
    handle, index, item = setter._inputs
    zeros = handle._op
    if zeros.type != "TensorListReserve" or view.only_user(setter._outputs[0]) is not adder:
        return
    if view.only_user(item) is not setter:
        return
    terms: list[tuple[Operation, Part]] = []
    splits: dict[Operation, list[Part | None]] = {}
    for tensor in view.terms_of(item):
        op = tensor._op
        if op.type == "MatMul" and view.only_user(tensor) is not None and _turned(op):
            terms.append((op, Part(0, None)))
            continue
        split = _split_of_product(view, tensor)
        if split is None or op in found.splits or op in splits:
            return
        product, parts = split
        number = op._outputs.index(tensor)
        terms.append((product, parts[number]))
        splits[op] = [None if i == number else p for i, p in enumerate(parts)]
    found.splits.update(splits)
    through = [setter] if len(terms) == 1 else [setter, item._op]
    through += [op for op, part in terms if part.size is None]
    if view.only_user(handle) is setter:
        through.append(zeros)
    found.input_gradients.append(InputGradient(place, adder, index, terms, through))


def _turned(op: Operation) -> bool:
    """Whether a MatMul is `a B'`."""
    return not op.attr("transpose_a") and bool(op.attr("transpose_b"))


def _split_of_product(view: _Body, tensor: Tensor) -> tuple[Operation, list[Part]] | None:
    """(the MatMul, its parts) where `tensor` is a part of the columns of a product `a B'` that nobody else uses."""
    op = tensor._op
    if op.type != "SplitV" or op not in view.running or view.only_user(tensor) is None:
        return None
    product = op._inputs[0]._op
    if product.type != "MatMul" or not _turned(product) or product not in view.running:
        return None
    sizes, axis = constant_value(op._inputs[1]), constant_value(op._inputs[2])
    if sizes is None or axis is None or int(axis) not in (1, -1) or int(min(sizes)) < 0:
        return None
    if view.only_user(product._outputs[0]) is not op:
        return None
    starts = [0]
    for size in sizes:
        starts.append(starts[-1] + int(size))
    return product, [Part(s, int(n)) for s, n in zip(starts, sizes)]


def _add_input_product(view: _Body, found: LoopProducts, op: Operation) -> None:
    left = op._inputs[0]
    if _is_element(view, left):
        found.inputs.append(InputProduct(op, [(Part(0, None), left._op)], []))
        return
    joined = left._op
    if joined.type != "ConcatV2" or joined not in view.running or op.attr("transpose_b"):
        return
    axis = constant_value(joined._inputs[-1])
    if axis is None or int(axis) not in (1, -1):
        return
    reads: list[tuple[Part, Operation]] = []
    rest: list[tuple[Part, Tensor]] = []
    start = 0
    for tensor in joined._inputs[:-1]:
        if tensor._dims is None or len(tensor._dims) != 2 or tensor._dims[1] is None:
            return
        part = Part(start, tensor._dims[1])
        start += tensor._dims[1]
        if _is_element(view, tensor):
            reads.append((part, tensor._op))
        else:
            rest.append((part, tensor))
    if reads:
        found.inputs.append(InputProduct(op, reads, rest))


def _is_element(view: _Body, tensor: Tensor) -> bool:
    """Whether `tensor` is read from a list that does not change."""
    op = tensor._op
    return op in view.running and op.type == "TensorListGetItem" and view.is_fixed(op._inputs[0])
