"""Loss scales: numbers that a loss is multiplied by so that small gradients are not lost in 16 bits.

Micikevicius et al., "Mixed Precision Training", 2018, section 3.2.
"""

from __future__ import annotations

import abc
from collections.abc import Iterable
from typing import Any

from headrace.api import reduction
from headrace.api.cond import cond
from headrace.api.control_flow_basic import group
from headrace.api.export import export
from headrace.api.math_ops import cast
from headrace.api.variable_arguments import VariableAggregation
from headrace.api.variable_base import Variable
from headrace.core import dtypes, nest
from headrace.distribute import context as distribution
from headrace.distribute.context import ReduceOp
from headrace.graph import convert, raw
from headrace.graph.indexed_slices import IndexedSlices
from headrace.graph.tensor import Tensor


@export("train.experimental.LossScale")
class LossScale(abc.ABC):
    """Base class of loss scales. Calling one gives the present scale, a float32 scalar."""

    def __init__(self) -> None:
        self._weights: dict[str, Any] = {}

    @abc.abstractmethod
    def __call__(self) -> Tensor:
        """The present scale, a float32 scalar."""

    @abc.abstractmethod
    def update(self, grads: Any) -> tuple[Any, Any]:
        """(an operation that adjusts the scale to gradients, whether these may be applied: a bool or a bool scalar).

        grads: a nested structure of gradients that have been divided by the scale; None counts for nothing.
        """

    def _add_weight(self, name: str, initial_value: Any, dtype: Any = None) -> Any:
        """A variable of the scale, not trained. Raises RuntimeError: there is one of that name."""
        if name in self._weights:
            raise RuntimeError(
                f"Duplicate variables detected. {type(self).__name__} has {name!r} already"
            )
        self._weights[name] = Variable(
            initial_value=initial_value,
            name=name,
            dtype=dtype,
            trainable=False,
            use_resource=True,
            aggregation=VariableAggregation.NONE,
        )
        return self._weights[name]

    @abc.abstractmethod
    def get_config(self) -> dict[str, Any]:
        """The arguments of the constructor."""

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> LossScale:
        """A loss scale with these arguments."""
        return cls(**config)


@export("train.experimental.FixedLossScale")
class FixedLossScale(LossScale):
    """The same scale always. Raises ValueError: not a number, or less than 1."""

    def __init__(self, loss_scale_value: float) -> None:
        super().__init__()
        if not isinstance(loss_scale_value, (int, float)):
            raise ValueError(
                f"loss_scale_value must be a Python int or float, got {loss_scale_value!r}"
            )
        if loss_scale_value < 1:
            raise ValueError(f"loss_scale_value must be at least 1, got {loss_scale_value}")
        self._loss_scale_value = float(loss_scale_value)

    def __call__(self) -> Tensor:
        return convert.convert_to_tensor(self._loss_scale_value)

    def update(self, grads: Any) -> tuple[Any, Any]:
        """(nothing to do, True)."""
        return raw.NoOp(), True

    def __repr__(self) -> str:
        return f"FixedLossScale({self._loss_scale_value})"

    def get_config(self) -> dict[str, Any]:
        """The scale."""
        return {"loss_scale_value": self._loss_scale_value}


@export("train.experimental.DynamicLossScale")
class DynamicLossScale(LossScale):
    """A scale that grows as long as all gradients are finite, and shrinks when one is not.

    initial_loss_scale: the first one. increment_period: after so many steps with finite gradients it is multiplied by
    `multiplier`; after one without, it is divided by it (not below 1) and the step changes nothing.
    """

    def __init__(
        self,
        initial_loss_scale: float = 2**15,
        increment_period: int = 2000,
        multiplier: float = 2.0,
    ) -> None:
        super().__init__()
        self._initial_loss_scale = float(initial_loss_scale)
        self._increment_period = int(increment_period)
        self._multiplier = float(multiplier)
        self._current = self._add_weight(
            "current_loss_scale", self._initial_loss_scale, dtypes.float32
        )
        # Steps with finite gradients since the scale changed.
        self._good_steps = self._add_weight("good_steps", 0, dtypes.int64)

    @property
    def initial_loss_scale(self) -> float:
        """The scale to begin with."""
        return self._initial_loss_scale

    @property
    def increment_period(self) -> int:
        """How many good steps it takes to grow."""
        return self._increment_period

    @property
    def multiplier(self) -> float:
        """By how much the scale grows and shrinks."""
        return self._multiplier

    def __call__(self) -> Tensor:
        return convert.convert_to_tensor(self._current)

    def update(self, grads: Any) -> tuple[Any, Any]:
        """(an operation that lets the scale grow or shrink, whether all `grads` are finite)."""
        flat = nest.flatten(grads)
        if distribution.has_strategy():
            finite = _finite_in_all_replicas(flat)
        else:
            finite = _all_finite(flat)
        return cond(finite, self._after_good_step, self._after_bad_step), finite

    def _after_good_step(self) -> Any:
        def grow() -> Any:
            larger = self._current * self._multiplier
            kept = raw.IsFinite(larger)
            return group(
                cond(kept, lambda: self._current.assign(larger).op, raw.NoOp),
                self._good_steps.assign(0),
            )

        due = self._good_steps + 1 >= self._increment_period
        return cond(due, grow, lambda: self._good_steps.assign_add(1).op)

    def _after_bad_step(self) -> Any:
        smaller = raw.Maximum(self._current / self._multiplier, 1.0)
        return group(self._good_steps.assign(0), self._current.assign(smaller))

    def __repr__(self) -> str:
        return (
            f"DynamicLossScale(initial_loss_scale={self._initial_loss_scale}, "
            f"increment_period={self._increment_period}, multiplier={self._multiplier})"
        )

    def get_config(self) -> dict[str, Any]:
        """What the constructor was given."""
        return {
            "initial_loss_scale": self._initial_loss_scale,
            "increment_period": self._increment_period,
            "multiplier": self._multiplier,
        }


def _all_finite(grads: Iterable[Any]) -> Tensor:
    """Whether every number of `grads` (some of them None) is finite."""
    values = [g.values if isinstance(g, IndexedSlices) else g for g in grads if g is not None]
    return reduction.reduce_all([reduction.reduce_all(raw.IsFinite(v)) for v in values])


def _finite_in_all_replicas(grads: list[Any]) -> Tensor:
    strategy = distribution.get_cross_replica_context()
    if strategy is None:
        raise RuntimeError("LossScale.update() is called in a cross-replica context only")
    # Sums are of numbers.
    finite = strategy.extended.call_for_each_replica(
        lambda given: cast(_all_finite(given), dtypes.float32), args=(grads,)
    )
    total = strategy.reduce(ReduceOp.SUM, finite, axis=None)
    return raw.Equal(total, float(strategy.num_replicas_in_sync))


def loss_scale_of(identifier: Any) -> LossScale:
    """The LossScale that a number, "dynamic", or a LossScale means. Raises ValueError: something else."""
    if isinstance(identifier, LossScale):
        return identifier
    if isinstance(identifier, (int, float)):
        return FixedLossScale(identifier)
    if identifier == "dynamic":
        return DynamicLossScale()
    raise ValueError(f"Could not interpret loss scale identifier: {identifier}")
