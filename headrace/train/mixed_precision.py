"""Mixed precision: products in 16 bits where the device is made for it, and a loss that is scaled so that nothing is lost.

Which operations change is decided by `passes/mixed_precision.py`, for sessions of the process or by ConfigProto.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from typing import Any

from tensorboard.compat.proto.attr_value_pb2 import AttrValue

from headrace.api.cond import cond
from headrace.api.control_flow_basic import group
from headrace.api.export import export
from headrace.api.logging import warning
from headrace.distribute import context as distribution
from headrace.graph import default, raw
from headrace.graph.indexed_slices import IndexedSlices
from headrace.passes.mixed_precision import INCLUDE_ATTR
from headrace.session.mixed_precision import Program
from headrace.train.loss_scale import DynamicLossScale, loss_scale_of
from headrace.train.optimizer import Optimizer


@export("train.experimental.MixedPrecisionLossScaleOptimizer")
class MixedPrecisionLossScaleOptimizer(Optimizer):
    """Another optimizer, with the loss multiplied by a scale and its gradients divided by it.

    opt: the optimizer. loss_scale: a number, "dynamic", or a LossScale; with a dynamic one, a step whose gradients are not
    all finite changes nothing but the scale.
    Raises ValueError: `opt` is no optimizer, or what the scale is cannot be told.
    """

    def __init__(self, opt: Optimizer, loss_scale: Any) -> None:
        if not isinstance(opt, Optimizer):
            raise ValueError(f'"opt" must be an instance of Optimizer, but got: {type(opt)}')
        super().__init__(opt._use_locking, opt.get_name())
        self._optimizer = opt
        self._loss_scale = loss_scale_of(loss_scale)

    def compute_gradients(
        self,
        loss: Any,
        var_list: Any = None,
        gate_gradients: int = Optimizer.GATE_OP,
        aggregation_method: Any = None,
        colocate_gradients_with_ops: bool = False,
        grad_loss: Any = None,
    ) -> list[tuple[Any, Any]]:
        """(gradient, variable) pairs, as those of `opt`: the scale is in the loss, and out of the gradients again."""
        scale = self._loss_scale()
        scaled = (lambda: loss() * scale) if callable(loss) else loss * scale
        pairs = self._optimizer.compute_gradients(
            scaled,
            var_list,
            gate_gradients,
            aggregation_method,
            colocate_gradients_with_ops,
            grad_loss,
        )
        back = 1 / self._loss_scale()
        return [(_times(grad, back), variable) for grad, variable in pairs]

    def apply_gradients(
        self, grads_and_vars: Iterable[Any], global_step: Any = None, name: str | None = None
    ) -> Any:
        """An operation that applies the gradients, if they are finite or the scale is fixed, and then counts the step.

        Raises ValueError: outside of a replica of a strategy.
        """
        if distribution.in_cross_replica_context():
            raise ValueError("apply_gradients() must be called in a replica context.")
        if not isinstance(self._loss_scale, DynamicLossScale):
            return self._optimizer.apply_gradients(grads_and_vars, global_step, name)
        replica = distribution.get_replica_context()
        assert replica is not None
        given = tuple(grads_and_vars)
        return replica.merge_call(self._apply_if_finite, args=(given, global_step, name))

    def _apply_if_finite(
        self, strategy: Any, grads_and_vars: Any, global_step: Any = None, name: str | None = None
    ) -> Any:
        name = self.get_name() if name is None else name
        update, finite = self._loss_scale.update([g for g, _ in grads_and_vars])

        def apply() -> Any:
            applied = strategy.extended.call_for_each_replica(
                self._optimizer.apply_gradients,
                args=(grads_and_vars, global_step, f"{name}-wrapped"),
            )
            return strategy.group(applied)

        # The scale changes after it was used.
        return group(cond(finite, apply, raw.NoOp), update, name=name)

    def get_slot(self, var: Any, name: str) -> Any:
        """The slot of the optimizer inside."""
        return self._optimizer.get_slot(var, name)

    def get_slot_names(self) -> list[str]:
        """The names of the slots of the optimizer inside."""
        return self._optimizer.get_slot_names()

    def variables(self) -> list[Any]:
        """The variables of the optimizer inside, and of the scale."""
        return [*self._optimizer.variables(), *self._loss_scale._weights.values()]


def _times(grad: Any, factor: Any) -> Any:
    if grad is None:
        return None
    if isinstance(grad, IndexedSlices):
        return IndexedSlices(grad.values * factor, grad.indices, grad.dense_shape)
    return grad * factor


@export("train.experimental.enable_mixed_precision_graph_rewrite")
def enable_mixed_precision_graph_rewrite(opt: Any, loss_scale: Any = "dynamic") -> Any:
    """`opt` with a scaled loss; sessions made from now on compute in float16 on GPUs where that is safe.

    opt: an optimizer, not one that scales already. loss_scale: a number, "dynamic", or a LossScale.
    What is on a CPU stays as it is; `RewriterConfig.auto_mixed_precision_onednn_bfloat16` is for these.
    Raises ValueError: another `opt`.
    """
    if isinstance(opt, MixedPrecisionLossScaleOptimizer):
        raise ValueError(
            '"opt" must not already be an instance of a MixedPrecisionLossScaleOptimizer. '
            "`enable_mixed_precision_graph_rewrite` makes one of it."
        )
    if not isinstance(opt, Optimizer):
        raise ValueError(
            '"opt" must be an instance of a tf.train.Optimizer or a tf.keras.optimizers.Optimizer, '
            f"but got: {opt}"
        )
    wrapped = MixedPrecisionLossScaleOptimizer(opt, loss_scale)
    if Program.has_plain_sessions:
        warning(
            "You already have existing Sessions that do not use mixed precision. "
            "enable_mixed_precision_graph_rewrite() does not change them."
        )
    Program.enabled = True
    return wrapped


@export("train.experimental.disable_mixed_precision_graph_rewrite")
def disable_mixed_precision_graph_rewrite() -> None:
    """Sessions made from now on compute in the types of the graph; optimizers go on scaling."""
    if not Program.enabled:
        warning(
            "disable_mixed_precision_graph_rewrite() called when mixed precision is already disabled."
        )
    Program.enabled = False


@export("train.experimental.auto_mixed_precision_scope")
@contextlib.contextmanager
def auto_mixed_precision_scope(select: bool = True) -> Iterator[None]:
    """A block whose new operations keep their types where `select` is False, and are like all others where it is True."""
    with default.get_default_graph()._attr_scope({INCLUDE_ATTR: AttrValue(b=select)}):
        yield
