"""What all cells of recurrent networks have: sizes, states to begin with, and how they are called."""

from __future__ import annotations

from typing import Any

from headrace.api import array_ops, init_ops
from headrace.api.export import export
from headrace.api.framework import GraphKeys, name_scope
from headrace.api.get_variable import get_variable_scope
from headrace.api.partitioned_variables import PartitionedVariable
from headrace.api.variable_scope import variable_scope
from headrace.core import dtypes, nest
from headrace.core.tensor_shape import TensorShape, as_shape
from headrace.graph import convert, default, raw
from headrace.graph.constant_value import constant_value
from headrace.graph.tensor import Tensor
from headrace.layers.base import Layer

# ---- sizes and states


def assert_like_rnncell(argument: str, cell: Any) -> None:
    """Raises TypeError unless `cell` has what a cell needs: sizes, a state to begin with, and to be callable."""
    missing = [
        f"'{n}' property is missing" for n in ("output_size", "state_size") if not _has(cell, n)
    ]
    if not (_has(cell, "zero_state") or _has(cell, "get_initial_state")):
        missing.append("either 'zero_state' or 'get_initial_state' method is required")
    if not callable(cell):
        missing.append("is not callable")
    if missing:
        raise TypeError(
            f"The argument {argument!r} ({cell}) is not an RNNCell: {', '.join(missing)}."
        )


def _has(obj: Any, name: str) -> bool:
    # Not hasattr(cell, ...): a property may well raise NotImplementedError, which only says that it is there.
    try:
        getattr(obj, name)
    except AttributeError:
        return False
    return True


def static_shape(batch_size: Any, size: Any) -> TensorShape:
    """The shape [batch_size, size...] as far as it is known; each an int, a shape, a tensor or None."""
    return _known(batch_size).concatenate(_known(size))


def _known(size: Any) -> TensorShape:
    if isinstance(size, Tensor):
        value = constant_value(size)
        if value is None:
            return TensorShape([None]) if size._dims == () else TensorShape(None)
        return TensorShape([int(v) for v in value.reshape(-1)])
    return TensorShape([None]) if size is None else as_shape(size if _is_many(size) else [size])


def _is_many(size: Any) -> bool:
    return isinstance(size, (TensorShape, list, tuple))


def zeros_of_size(batch_size: Any, size: Any, dtype: Any) -> Tensor:
    """Zeros of shape [batch_size, size...]; batch_size and size each an int, a shape or a tensor."""
    known = static_shape(batch_size, size)
    if known.is_fully_defined():
        return array_ops.zeros(known, dtype)
    parts = [_as_vector(part) for part in (batch_size, size)]
    value = array_ops.zeros(raw.ConcatV2(parts, 0), dtype)
    value.set_shape(known)
    return value


def _as_vector(size: Any) -> Tensor:
    if isinstance(size, Tensor):
        size = size if size.dtype == dtypes.int32 else raw.Cast(size, DstT=dtypes.int32)
        return raw.Reshape(size, [-1]) if size._dims == () else size
    return convert.convert_to_tensor(_known(size).as_list(), dtypes.int32)


def check_type(dtype: Any) -> None:
    """Raises ValueError: a type that is neither floating nor complex; None stands for one not known yet."""
    if dtype is None:
        return
    dtype = dtypes.as_dtype(dtype)
    if not (dtype.is_floating or dtype.is_complex):
        raise ValueError(f"RNN cell only supports floating point inputs, but saw dtype: {dtype!r}")


def check_types(*values: Any) -> None:
    """As `check_type`, for the tensors of structures."""
    for tensor in nest.flatten(values):
        check_type(tensor.dtype)


# ---- the base of all cells


@export("nn.rnn_cell.RNNCell")
class RNNCell(Layer):
    """One step of a recurrent network: `output, new_state = cell(inputs, state)`.

    Subclasses say `state_size` and `output_size` (an int, a TensorShape, or a structure of these: the sizes behind the
    batch's) and compute in `call`, where they may use `tf.get_variable`.
    """

    def __init__(
        self, trainable: bool = True, name: str | None = None, dtype: Any = None, **kwargs: Any
    ) -> None:
        super().__init__(trainable=trainable, name=name, dtype=dtype, **kwargs)
        self._is_tf_rnn_cell = True

    def __call__(self, inputs: Any, state: Any, scope: Any = None) -> tuple[Any, Any]:
        """The output and the new state for `inputs` and `state`. scope: where variables live, by default the cell's name."""
        if scope is not None:
            with variable_scope(scope, custom_getter=self._noted) as opened:
                return super().__call__(inputs, state, scope=opened)
        opened = getattr(self, "rnncell_scope", None)
        if opened is None:
            opened = self.rnncell_scope = variable_scope(
                get_variable_scope(), custom_getter=self._noted
            )
        with opened:
            return super().__call__(inputs, state)

    def _noted(self, getter: Any, *args: Any, **kwargs: Any) -> Any:
        """A variable that `call` asks for becomes one of the cell's."""
        variable = getter(*args, **kwargs)
        trained = default.get_default_graph().get_collection(GraphKeys.TRAINABLE_VARIABLES)
        first = next(iter(variable)) if isinstance(variable, PartitionedVariable) else variable
        trainable = any(first is v for v in trained)
        kept = self._trainable_weights if trainable else self._non_trainable_weights
        if all(variable is not v for v in kept):
            kept.append(variable)
        return variable

    @property
    def state_size(self) -> Any:
        """The sizes of the state."""
        raise NotImplementedError("Abstract method")

    @property
    def output_size(self) -> Any:
        """The sizes of the output."""
        raise NotImplementedError("Abstract method")

    def build(self, _: Any) -> None:
        """Nothing: variables are made in `call`."""

    def get_initial_state(
        self, inputs: Any = None, batch_size: Any = None, dtype: Any = None
    ) -> Any:
        """The state to begin with, for the batch size and type given or those of `inputs`: zeros.

        Raises ValueError: they are not given, or contradict the inputs.
        """
        if inputs is not None:
            inputs = convert.convert_to_tensor(inputs, name="inputs")
            size = inputs._dims[0] if inputs._dims else None
            if batch_size is not None:
                known = constant_value(batch_size) if isinstance(batch_size, Tensor) else batch_size
                if known != size:
                    raise ValueError(
                        "batch size from input tensor is different from the input param. Input tensor batch: "
                        f"{size}, batch_size: {batch_size}"
                    )
            if dtype is not None and inputs.dtype != dtype:
                raise ValueError(
                    f"dtype from input tensor is different from the input param. Input tensor dtype: {inputs.dtype}, dtype: "
                    f"{dtype}"
                )
            batch_size = size or array_ops.shape(inputs)[0]
            dtype = inputs.dtype
        if batch_size is None or dtype is None:
            raise ValueError(
                f"batch_size and dtype cannot be None while constructing initial state: batch_size={batch_size}, dtype={dtype}"
            )
        return self.zero_state(batch_size, dtype)

    def zero_state(self, batch_size: Any, dtype: Any) -> Any:
        """Zeros of shape [batch_size, size...] for each size of `state_size`, in its structure."""
        with name_scope(f"{type(self).__name__}ZeroState", values=[batch_size]):
            return nest.map_structure(
                lambda size: zeros_of_size(batch_size, size, dtype), self.state_size
            )

    def get_config(self) -> dict[str, Any]:
        """What `from_config` makes an equal cell of."""
        return super().get_config()


class LayerRNNCell(RNNCell):
    """A cell that makes its variables in `build`, as layers do."""

    def __call__(
        self, inputs: Any, state: Any, scope: Any = None, *args: Any, **kwargs: Any
    ) -> tuple[Any, Any]:
        """The output and the new state for `inputs` and `state`."""
        return Layer.__call__(self, inputs, state, *args, scope=scope, **kwargs)

    def _depth_of(self, input_shape: Any) -> int:
        shape = as_shape(input_shape).as_list()
        if shape[-1] is None:
            raise ValueError(f"Expected inputs.shape[-1] to be known, saw shape: {shape}")
        check_type(self.dtype)
        return shape[-1]

    def _zeros(self) -> Any:
        return init_ops.Zeros(dtype=self.dtype or dtypes.float32)


def demand_matrices(cell: Layer) -> None:
    """Has `cell` refuse inputs that are not [batch, depth]."""
    from headrace.layers.input_spec import InputSpec

    cell.input_spec = InputSpec(ndim=2)
