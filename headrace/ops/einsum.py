"""Einsum: sums of products, the axes named by letters."""

from __future__ import annotations

import string
from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np

from headrace.graph import raw, shapes
from headrace.graph.op_def import define

einsum = define("Einsum", "inputs: N*T -> output: T", "equation: string, N: int >= 1, T: type")


def resolve(equation: str, ranks: Sequence[int]) -> tuple[list[str], str]:
    """The terms of the inputs and of the output with each `...` replaced by letters of its own, aligned at the right.

    Raises ValueError: a term does not fit the rank of its input.
    """
    left, _, output = equation.replace(" ", "").partition("->")
    terms = left.split(",")
    if len(terms) != len(ranks):
        raise ValueError(f"equation {equation!r} has {len(terms)} inputs, got {len(ranks)}.")
    unused = "".join(c for c in string.ascii_letters if c not in equation)
    longest = ""
    for i, (term, rank) in enumerate(zip(terms, ranks, strict=True)):
        count = rank - len(term.replace("...", ""))
        if count < 0 or (count and "..." not in term):
            raise ValueError(
                f"term {term!r} of equation {equation!r} does not fit an input of rank {rank}."
            )
        letters = unused[len(unused) - count :]
        longest = max(longest, letters, key=len) if "..." in term else longest
        terms[i] = term.replace("...", letters)
    if longest and "..." not in output:
        raise ValueError(
            f"the output of equation {equation!r} lacks '...' for the axes {longest!r}."
        )
    return terms, output.replace("...", longest)


@einsum.shape
def _einsum_shape(op, inputs):
    if any(dims is None for dims in inputs):
        return None
    try:
        terms, output = resolve(op.attr("equation"), [len(dims) for dims in inputs])
    except ValueError as error:
        raise op.error(str(error)) from None
    sizes: dict[str, int | None] = {}
    for term, dims in zip(terms, inputs, strict=True):
        for letter, size in zip(term, dims, strict=True):
            known = sizes.get(letter, 1)
            if known == 1 or size == 1:
                sizes[letter] = size if known == 1 else known
            else:
                sizes[letter] = shapes.merge_size(op, known, size, f"sizes of axis {letter!r}")
    return tuple(sizes[letter] for letter in output)


def _einsum(op, inputs, namespace):
    """Axes of size 1 that meet a larger one are dropped, which repeats them."""
    terms, output = resolve(op.attr("equation"), [x.ndim for x in inputs])
    sizes: dict[str, int] = {}
    for term, x in zip(terms, inputs, strict=True):
        for letter, size in zip(term, x.shape, strict=True):
            sizes[letter] = max(size, sizes.get(letter, 1)) if size else 0
    kept_terms, kept = [], []
    for term, x in zip(terms, inputs, strict=True):
        single = tuple(i for i, c in enumerate(term) if x.shape[i] == 1 and sizes[c] != 1)
        kept_terms.append("".join(c for i, c in enumerate(term) if i not in single))
        kept.append(namespace.squeeze(x, single) if single else x)
    # A letter that the output has twice stands for a diagonal: a product with an identity matrix.
    fresh = (c for c in string.ascii_letters if c not in sizes)
    distinct = ""
    for letter in output:
        if letter in distinct:
            twin = next(fresh)
            kept_terms.append(letter + twin)
            kept.append(np.eye(sizes[letter], dtype=inputs[0].dtype))
            letter = twin
        distinct += letter
    return f"{','.join(kept_terms)}->{distinct}", kept


@einsum.lower
def _einsum_lower(op, inputs):
    equation, values = _einsum(op, inputs, jnp)
    return jnp.einsum(equation, *values, preferred_element_type=inputs[0].dtype)


@einsum.host
def _einsum_host(op, inputs):
    kind = inputs[0].dtype
    equation, values = _einsum(op, inputs, np)
    if kind.itemsize == 2:
        values = [x.astype(np.float32) for x in values]
    return np.asarray(np.einsum(equation, *values, optimize=True)).astype(kind, copy=False)


@einsum.gradient
def _einsum_gradient(op, dz):
    """By one input: dz contracted with the other inputs, to the letters of that input."""
    inputs = op.inputs
    if any(x._dims is None for x in inputs):
        raise op.error("the gradient needs inputs of known rank.")
    terms, output = resolve(op.attr("equation"), [len(x._dims) for x in inputs])
    grads = []
    for i, x in enumerate(inputs):
        factors = [(output, dz)]
        factors += [
            (t, raw.Conj(other) if other.dtype.is_complex else other)
            for k, (t, other) in enumerate(zip(terms, inputs, strict=True))
            if k != i
        ]
        grads.append(_sum_to_shape_of(x, _gradient_of_term(x, terms[i], factors)))
    return grads


def _gradient_of_term(x, term, factors):
    have = set("".join(t for t, _ in factors))
    if len(set(term)) == len(term) and have.issuperset(term):
        return _contract(factors, term)
    # A letter that only this term has was summed alone: the gradient repeats along it (a product with ones). A letter
    # that it has twice took the diagonal: the gradient is spread onto one (a product with an identity matrix).
    distinct = "".join(dict.fromkeys(c for c in term if c in have))
    terms, tensors, out = [distinct], [_contract(factors, distinct)], ""
    fresh = iter(c for c in string.ascii_letters if c not in have and c not in term)
    shape_of_x = raw.Shape(x)
    one = np.ones((), x.dtype.base_dtype.np_dtype)
    for position, c in enumerate(term):
        size = raw.Pack([raw.GatherV2(shape_of_x, np.int32(position), np.int32(0))])
        if c in out:
            twin = next(fresh)
            terms.append(c + twin)
            tensors.append(raw.MatrixDiag(raw.Fill(size, one)))
            out += twin
            continue
        if c not in have:
            terms.append(c)
            tensors.append(raw.Fill(size, one))
        out += c
    return _contract(list(zip(terms, tensors, strict=True)), out)


def _contract(factors, term):
    if len(factors) == 1 and factors[0][0] == term:
        return factors[0][1]
    return raw.Einsum(
        [x for _, x in factors], equation=f"{','.join(t for t, _ in factors)}->{term}"
    )


def _sum_to_shape_of(x, dx):
    """`dx` summed over the axes along which x was repeated."""
    if shapes.is_known(x._dims) and x._dims == dx._dims:
        return dx
    shape_of_x = raw.Shape(x)
    rx, _ = raw.BroadcastGradientArgs(shape_of_x, raw.Shape(dx))
    return raw.Reshape(raw.Sum(dx, rx), shape_of_x)
