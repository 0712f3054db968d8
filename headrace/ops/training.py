"""One step of an optimizer on one variable and its slots: Apply*, and SparseApply* for some rows of them.

An algorithm is written once, as a function from the old values to the new ones; from it come four ops: on
references and on
resources, dense and sparse.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from headrace import native
from headrace.graph import shapes
from headrace.graph.handles import handle_dims
from headrace.graph.op_def import PADDED, Effect, define
from headrace.lowering.index_checks import check_rows

_TYPES = "T: {numeric}"
_INDEX = "Tindices: {int32, int64}"
_LOCKING = "use_locking: bool = false"


def _numpy_or_jax(x: Any) -> Any:
    return np if isinstance(x, (np.ndarray, np.generic)) else jnp


def _family(
    name: str,
    states: tuple[str, ...],
    arguments: tuple[str, ...],
    *,
    sparse: tuple[str, ...] | None = None,
    attrs: str = "",
    kinds: str = "ref resource",
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Defines the ops of one algorithm, whose update is the decorated function.

    states: the variable and its slots. arguments: the other inputs in order, `name` or `name:type`; the
    gradient is `grad` or
    `delta`. sparse: the inputs of the sparse op in order, with `indices`; None where there is none. kinds:
    which flavours.
    The function gets (op, xp, old values..., arguments by name) and returns the new values.
    """

    def attach(update: Callable[..., Any]) -> Callable[..., Any]:
        for kind in kinds.split():
            _define(name, kind, states, arguments, attrs, update, is_sparse=False)
            if sparse is not None:
                _define(name, kind, states, sparse, attrs, update, is_sparse=True)
        return update

    return attach


def _define(
    name: str,
    kind: str,
    states: tuple[str, ...],
    arguments: tuple[str, ...],
    attrs: str,
    update: Callable[..., Any],
    is_sparse: bool,
) -> None:
    is_ref = kind == "ref"
    inputs = [f"{s}: {'Ref(T)' if is_ref else 'resource'}" for s in states]
    names = []
    for argument in arguments:
        short, _, own = argument.partition(":")
        names.append(short)
        inputs.append(f"{short}: {own or ('Tindices' if short == 'indices' else 'T')}")
    definition = define(
        f"{'' if is_ref else 'Resource'}{'Sparse' if is_sparse else ''}Apply{name}",
        f"{', '.join(inputs)} -> {'out: Ref(T)' if is_ref else ''}",
        ", ".join(a for a in (_TYPES, _INDEX if is_sparse else "", _LOCKING, attrs) if a),
        writes=states,
        effects=(Effect.NONE if is_ref else Effect.STATEFUL)
        | (Effect.FALLIBLE if is_sparse else Effect.NONE),
        checked_inputs=("indices",) if is_sparse else (),
    )
    count = len(states)
    gradient = next(n for n in names if n in ("grad", "delta"))

    @definition.shape
    def shape(op: Any, *dims: Any) -> Any:
        held = dims[:count] if is_ref else [handle_dims(t) for t in op._inputs[:count]]
        merged = held[0]
        for other, what in zip(held[1:], states[1:], strict=True):
            merged = shapes.merge(op, merged, other, f"var and {what}")
        for short, given in zip(names, dims[count:], strict=True):
            if short == gradient:
                if is_sparse and given:
                    _check_rows_shape(op, given, dims[count + names.index("indices")])
                    given = (None, *given[1:])
                merged = shapes.merge(op, merged, given, f"var and {short}")
            elif short != "indices":
                shapes.with_rank(op, given, 0, short)
        return merged if is_ref else []

    if is_sparse:
        place = count + names.index("indices")
        definition.facts(lambda op: _facts_of_rows(op._inputs[place]._op))

    def rule(op: Any, *values: Any) -> Any:
        slots = values[:count]
        given = dict(zip(names, values[count:], strict=True))
        old = [s.read() for s in slots]
        for value, what in zip(old[1:], states[1:], strict=True):
            if value.shape != old[0].shape:
                raise op.invalid(
                    f"var and {what} do not have the same shape{_text(old[0])} {_text(value)}"
                )
        if is_sparse:
            _update_rows(op, update, slots, old, given, gradient)
        else:
            if given[gradient].shape != old[0].shape:
                raise op.invalid(
                    f"var and {gradient} do not have the same shape{_text(old[0])} {_text(given[gradient])}"
                )
            slots[0].update(
                op, partial(_applied, op, update, names, gradient), *given.values(), slots=slots
            )
        return slots[0] if is_ref else ()

    definition.lower(rule)
    definition.host(rule)
    definition.not_differentiable()


def _applied(
    op: Any, update: Callable[..., Any], names: list[str], gradient: str, *values: Any
) -> list[Any]:
    """The new values of a variable and its slots, of the old ones and the other inputs."""
    old = [*values[: len(values) - len(names)]]
    return _updated(op, update, old, dict(zip(names, values[len(old) :], strict=True)), gradient)


def _updated(
    op: Any, update: Callable[..., Any], old: list[Any], given: dict[str, Any], gradient: str
) -> Any:
    """The new values of a variable and its slots, arrays of their own."""
    xp = _numpy_or_jax(old[0])
    if xp is np and isinstance(given[gradient], np.ndarray):
        new = native.fused(
            lambda arrays: update(op, np, *arrays[:-1], **{**given, gradient: arrays[-1]}),
            [*old, given[gradient]],
        )
        if new is not None:
            return new
    new = update(op, xp, *old, **given)
    return [value.astype(before.dtype) for value, before in zip(new, old, strict=True)]


def _text(value: Any) -> str:
    return f"[{','.join(map(str, value.shape))}]"


# ---- some rows of a variable


def _check_rows_shape(op: Any, grad: Any, indices: Any) -> None:
    indices = shapes.with_rank(op, indices, 1, "indices")
    if indices is not None:
        shapes.merge(op, grad[:1], indices, "the rows of grad and indices")


def _facts_of_rows(source: Any) -> tuple[bool, bool]:
    """Whether the rows that an operation names differ from each other, and whether padding is among them."""
    return source.type in ("Unique", "UniqueV2"), PADDED in source._attrs


def _update_rows(
    op: Any,
    update: Callable[..., Any],
    slots: Any,
    old: list[Any],
    given: dict[str, Any],
    gradient: str,
) -> None:
    """Applies `update` to the rows that `indices` names; to a row named more than once, one time after the other."""
    rows, grad = given.pop("indices"), given[gradient]
    if rows.ndim != 1:
        raise op.invalid("indices must be one-dimensional")
    if not old[0].shape:
        raise op.invalid("var must be at least 1 dimensional")
    if grad.shape[1:] != old[0].shape[1:]:
        raise op.invalid(
            f"var and grad must match in their rows, got {_text(old[0])} and {_text(grad)}"
        )
    if grad.shape[:1] != rows.shape:
        raise op.invalid("grad must be the same size as indices in the first dimension.")
    differ, padded = op.facts
    check_rows(op, rows, old[0].shape[0], padded)
    known = all(isinstance(v, (np.ndarray, np.generic)) for v in (*old, rows, grad))
    if known and not differ:
        differ = len(np.unique(rows)) == len(rows)
    if not differ:
        tables = _one_after_the_other(op, update, old, rows, given, gradient, known)
        for slot, table in zip(slots, tables, strict=True):
            slot.write(table)
        return
    if known:
        before = [table[rows] for table in old]
    else:
        before = [
            jnp.asarray(table).at[rows].get(mode="clip", wrap_negative_indices=False)
            for table in old
        ]
    new = update(op, _numpy_or_jax(before[0]), *before, **given)
    for slot, value, table in zip(slots, new, old, strict=True):
        slot.write_rows("Update", (rows,), value.astype(table.dtype))


def _one_after_the_other(
    op: Any,
    update: Callable[..., Any],
    old: list[Any],
    rows: Any,
    given: dict[str, Any],
    gradient: str,
    known: bool,
) -> Any:
    grads = given[gradient]
    if known:
        tables = [table.copy() for table in old]
        for row, grad in zip(rows, grads, strict=True):
            new = update(op, np, *[table[row] for table in tables], **{**given, gradient: grad})
            for table, value in zip(tables, new, strict=True):
                table[row] = value
        return tables
    rows, grads = jnp.asarray(rows), jnp.asarray(grads)

    def step(i: Any, tables: list[Any]) -> list[Any]:
        new = update(
            op, jnp, *[table[rows[i]] for table in tables], **{**given, gradient: grads[i]}
        )
        return [
            table.at[rows[i]].set(
                value.astype(table.dtype), mode="drop", wrap_negative_indices=False
            )
            for table, value in zip(tables, new, strict=True)
        ]

    return jax.lax.fori_loop(0, rows.shape[0], step, [jnp.asarray(table) for table in old])


# ---- the algorithms


@_family("GradientDescent", ("var",), ("alpha", "delta"))
def _gradient_descent(op, xp, var, *, alpha, delta):
    return (var - alpha * delta,)


@_family(
    "Momentum",
    ("var", "accum"),
    ("lr", "grad", "momentum"),
    sparse=("lr", "grad", "indices", "momentum"),
    attrs="use_nesterov: bool = false",
)
def _momentum(op, xp, var, accum, *, lr, grad, momentum):
    """Polyak (1964); with use_nesterov as Sutskever et al. (2013), simplified."""
    accum = accum * momentum + grad
    if op.attr("use_nesterov"):
        return var - (grad * lr + accum * momentum * lr), accum
    return var - accum * lr, accum


@_family(
    "KerasMomentum",
    ("var", "accum"),
    ("lr", "grad", "momentum"),
    sparse=("lr", "grad", "indices", "momentum"),
    attrs="use_nesterov: bool = false",
    kinds="resource",
)
def _keras_momentum(op, xp, var, accum, *, lr, grad, momentum):
    accum = accum * momentum - grad * lr
    if op.attr("use_nesterov"):
        return var + (accum * momentum - grad * lr), accum
    return var + accum, accum


@_family(
    "Adagrad",
    ("var", "accum"),
    ("lr", "grad"),
    sparse=("lr", "grad", "indices"),
    attrs="update_slots: bool = true",
)
def _adagrad(op, xp, var, accum, *, lr, grad):
    """Duchi, Hazan, Singer: Adaptive Subgradient Methods (2011)."""
    if op.attr("update_slots"):
        accum = accum + grad * grad
    return var - grad * lr / xp.sqrt(accum), accum


@_family(
    "AdagradV2",
    ("var", "accum"),
    ("lr", "epsilon", "grad"),
    sparse=("lr", "epsilon", "grad", "indices"),
    attrs="update_slots: bool = true",
)
def _adagrad_v2(op, xp, var, accum, *, lr, epsilon, grad):
    if op.attr("update_slots"):
        accum = accum + grad * grad
    return var - grad * lr / (xp.sqrt(accum) + epsilon), accum


@_family(
    "AdagradDA",
    ("var", "gradient_accumulator", "gradient_squared_accumulator"),
    ("grad", "lr", "l1", "l2", "global_step:int64"),
    sparse=("grad", "indices", "lr", "l1", "l2", "global_step:int64"),
)
def _adagrad_da(op, xp, var, total, squares, *, grad, lr, l1, l2, global_step):
    """Dual averaging of Duchi et al. (2011): the variable follows from the sums alone."""
    steps = global_step.astype(var.dtype)
    total = total + grad
    squares = squares + grad * grad
    shrunk = xp.sign(total) * xp.maximum(xp.abs(total) - l1 * steps, xp.zeros_like(total))
    return -lr * shrunk / (l2 * steps * lr + xp.sqrt(squares)), total, squares


@_family(
    "Adadelta",
    ("var", "accum", "accum_update"),
    ("lr", "rho", "epsilon", "grad"),
    sparse=("lr", "rho", "epsilon", "grad", "indices"),
)
def _adadelta(op, xp, var, accum, accum_update, *, lr, rho, epsilon, grad):
    """Zeiler: ADADELTA (2012)."""
    one = var.dtype.type(1)
    accum = accum * rho + grad * grad * (one - rho)
    update = xp.sqrt(accum_update + epsilon) / xp.sqrt(accum + epsilon) * grad
    accum_update = accum_update * rho + update * update * (one - rho)
    return var - update * lr, accum, accum_update


def _adam_rate(xp, var, lr, beta1_power, beta2_power):
    one = var.dtype.type(1)
    return lr * xp.sqrt(one - beta2_power) / (one - beta1_power)


@_family(
    "Adam",
    ("var", "m", "v"),
    ("beta1_power", "beta2_power", "lr", "beta1", "beta2", "epsilon", "grad"),
    attrs="use_nesterov: bool = false",
)
def _adam(op, xp, var, m, v, *, beta1_power, beta2_power, lr, beta1, beta2, epsilon, grad):
    """Kingma, Ba: Adam (2014), in the form before section 2.1 ends: epsilon is the paper's epsilon hat."""
    one = var.dtype.type(1)
    rate = _adam_rate(xp, var, lr, beta1_power, beta2_power)
    m = m + (grad - m) * (one - beta1)
    v = v + (grad * grad - v) * (one - beta2)
    step = grad * (one - beta1) + beta1 * m if op.attr("use_nesterov") else m
    return var - step * rate / (xp.sqrt(v) + epsilon), m, v


@_family(
    "AdamWithAmsgrad",
    ("var", "m", "v", "vhat"),
    ("beta1_power", "beta2_power", "lr", "beta1", "beta2", "epsilon", "grad"),
    kinds="resource",
)
def _adam_with_amsgrad(
    op, xp, var, m, v, vhat, *, beta1_power, beta2_power, lr, beta1, beta2, epsilon, grad
):
    """Reddi et al.: On the Convergence of Adam and Beyond (2018)."""
    one = var.dtype.type(1)
    rate = _adam_rate(xp, var, lr, beta1_power, beta2_power)
    m = m + (grad - m) * (one - beta1)
    v = v + (grad * grad - v) * (one - beta2)
    vhat = xp.maximum(vhat, v)
    return var - m * rate / (xp.sqrt(vhat) + epsilon), m, v, vhat


@_family("AdaMax", ("var", "m", "v"), ("beta1_power", "lr", "beta1", "beta2", "epsilon", "grad"))
def _ada_max(op, xp, var, m, v, *, beta1_power, lr, beta1, beta2, epsilon, grad):
    """Kingma, Ba: Adam (2014), section 7.1."""
    one = var.dtype.type(1)
    m = m + (grad - m) * (one - beta1)
    v = xp.maximum(beta2 * v, xp.abs(grad))
    return var - lr / (one - beta1_power) * (m / (v + epsilon)), m, v


@_family(
    "RMSProp",
    ("var", "ms", "mom"),
    ("lr", "rho", "momentum", "epsilon", "grad"),
    sparse=("lr", "rho", "momentum", "epsilon", "grad", "indices"),
)
def _rms_prop(op, xp, var, ms, mom, *, lr, rho, momentum, epsilon, grad):
    """Tieleman, Hinton: lecture 6.5 (2012)."""
    ms = ms + (grad * grad - ms) * (var.dtype.type(1) - rho)
    mom = mom * momentum + grad * lr / xp.sqrt(ms + epsilon)
    return var - mom, ms, mom


@_family(
    "CenteredRMSProp",
    ("var", "mg", "ms", "mom"),
    ("lr", "rho", "momentum", "epsilon", "grad"),
    sparse=("lr", "rho", "momentum", "epsilon", "grad", "indices"),
)
def _centered_rms_prop(op, xp, var, mg, ms, mom, *, lr, rho, momentum, epsilon, grad):
    """Graves: Generating Sequences With Recurrent Neural Networks (2013)."""
    one = var.dtype.type(1)
    ms = ms + (grad * grad - ms) * (one - rho)
    mg = mg + (grad - mg) * (one - rho)
    mom = mom * momentum + grad * lr / xp.sqrt(ms - mg * mg + epsilon)
    return var - mom, mg, ms, mom


def _scale(xp, accum, lr_power):
    """`accum ** -lr_power`; the usual power is a root."""
    if not isinstance(lr_power, (np.ndarray, np.generic)):
        return xp.where(lr_power == -0.5, xp.sqrt(accum), xp.power(accum, -lr_power))
    return xp.sqrt(accum) if lr_power == -0.5 else xp.power(accum, -lr_power)


def _follow_regularized_leader(xp, var, accum, linear, grad, shrunk_grad, lr, l1, l2, lr_power):
    total = accum + grad * grad
    two = var.dtype.type(2)
    old_scale, scale = _scale(xp, accum, lr_power), _scale(xp, total, lr_power)
    linear = linear + (shrunk_grad - (scale - old_scale) / lr * var)
    ahead = (l1 * xp.sign(linear) - linear) / (scale / lr + two * l2)
    return xp.where(xp.abs(linear) > l1, ahead, xp.zeros_like(ahead)), total, linear


@_family(
    "Ftrl",
    ("var", "accum", "linear"),
    ("grad", "lr", "l1", "l2", "lr_power"),
    sparse=("grad", "indices", "lr", "l1", "l2", "lr_power"),
)
def _ftrl(op, xp, var, accum, linear, *, grad, lr, l1, l2, lr_power):
    """McMahan et al.: Ad Click Prediction (2013)."""
    return _follow_regularized_leader(xp, var, accum, linear, grad, grad, lr, l1, l2, lr_power)


@_family(
    "FtrlV2",
    ("var", "accum", "linear"),
    ("grad", "lr", "l1", "l2", "l2_shrinkage", "lr_power"),
    sparse=("grad", "indices", "lr", "l1", "l2", "l2_shrinkage", "lr_power"),
)
def _ftrl_v2(op, xp, var, accum, linear, *, grad, lr, l1, l2, l2_shrinkage, lr_power):
    shrunk = grad + var.dtype.type(2) * l2_shrinkage * var
    return _follow_regularized_leader(xp, var, accum, linear, grad, shrunk, lr, l1, l2, lr_power)


@_family("AddSign", ("var", "m"), ("lr", "alpha", "sign_decay", "beta", "grad"))
def _add_sign(op, xp, var, m, *, lr, alpha, sign_decay, beta, grad):
    """Bello et al.: Neural Optimizer Search (2017)."""
    m = m * beta + grad * (var.dtype.type(1) - beta)
    agreement = xp.sign(grad) * xp.sign(m)
    return var - lr * (alpha + sign_decay * agreement) * grad, m


@_family("PowerSign", ("var", "m"), ("lr", "logbase", "sign_decay", "beta", "grad"))
def _power_sign(op, xp, var, m, *, lr, logbase, sign_decay, beta, grad):
    """Bello et al.: Neural Optimizer Search (2017)."""
    m = m * beta + grad * (var.dtype.type(1) - beta)
    agreement = xp.sign(grad) * xp.sign(m)
    return var - lr * xp.exp(logbase * sign_decay * agreement) * grad, m


def _proximal(xp, ahead, rate, l1, l2):
    """The proximal step of Duchi, Singer: FOBOS (2009), for l1 and l2 penalties."""
    shrunk = xp.sign(ahead) * xp.maximum(xp.abs(ahead) - rate * l1, xp.zeros_like(ahead))
    return shrunk / (ahead.dtype.type(1) + l2 * rate)


@_family(
    "ProximalAdagrad",
    ("var", "accum"),
    ("lr", "l1", "l2", "grad"),
    sparse=("lr", "l1", "l2", "grad", "indices"),
)
def _proximal_adagrad(op, xp, var, accum, *, lr, l1, l2, grad):
    accum = accum + grad * grad
    rate = lr / xp.sqrt(accum)
    return _proximal(xp, var - grad * rate, rate, l1, l2), accum


def _proximal_gradient_descent(op, xp, var, *, alpha, l1, l2, delta=None, grad=None):
    return (_proximal(xp, var - (grad if delta is None else delta) * alpha, alpha, l1, l2),)


for _kind in ("ref", "resource"):
    _define(
        "ProximalGradientDescent",
        _kind,
        ("var",),
        ("alpha", "l1", "l2", "delta"),
        "",
        _proximal_gradient_descent,
        is_sparse=False,
    )
    _define(
        "ProximalGradientDescent",
        _kind,
        ("var",),
        ("alpha", "l1", "l2", "grad", "indices"),
        "",
        _proximal_gradient_descent,
        is_sparse=True,
    )
