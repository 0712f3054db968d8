"""How the parameters of cuDNN's networks stand in a checkpoint: as the variables of cells that compute the same."""

from __future__ import annotations

from typing import Any, ClassVar

from headrace.api.get_variable import VariableScope
from headrace.contrib.cudnn_rnn import converters
from headrace.graph import raw
from headrace.graph.convert import convert_to_tensor
from headrace.train.saveable_object import SaveableObject, SaveSpec


class _OpaqueParamsSaveable(SaveableObject):
    """The variable with the parameters of a network, saved under the names of the variables of cells.

    The names are those of `tf.nn.dynamic_rnn` with a MultiRNNCell, or of `stack_bidirectional_dynamic_rnn`, in `scope`.
    """

    _converter: ClassVar[Any]
    _cell_name: ClassVar[str]
    _weight_names: ClassVar[tuple[str, ...]] = ("kernel",)
    _bias_names: ClassVar[tuple[str, ...]] = ("bias",)

    def __init__(
        self,
        opaque_params: Any,
        num_layers: int,
        num_units: int,
        input_size: int,
        input_mode: str = "linear_input",
        direction: str = "unidirectional",
        scope: Any = None,
        name: str = "cudnn_rnn_saveable",
    ) -> None:
        self._variables = opaque_params
        self.format_converter = self._converter(
            num_layers, num_units, input_size, input_mode=input_mode, direction=direction
        )
        cells = list(_cell_scopes(num_layers, direction))
        names = [f"{cell}/{self._cell_name}/{n}" for cell in cells for n in self._weight_names]
        names += [f"{cell}/{self._cell_name}/{n}" for cell in cells for n in self._bias_names]
        prefix = scope.name if isinstance(scope, VariableScope) else scope
        names = [f"{prefix}/{n}" if prefix else n for n in names]
        value = convert_to_tensor(opaque_params)
        tensors = [t for part in self.format_converter.opaque_to_tf_canonical(value) for t in part]
        specs = [SaveSpec(t, "", n) for t, n in zip(tensors, names, strict=True)]
        super().__init__(raw.Identity(value), specs, name)

    def restore(self, restored_tensors: list[Any], restored_shapes: list[Any] | None) -> Any:
        """Assigns to the variable the parameters that the variables of cells amount to."""
        value = self.format_converter.tf_canonical_to_opaque(restored_tensors)
        return (
            self._variables.assign(value).op
            if _is_resource(self._variables)
            else raw.Assign(
                convert_to_tensor(self._variables, as_ref=True), value, validate_shape=False
            )
        )


def _is_resource(variable: Any) -> bool:
    return hasattr(variable, "handle")


def _cell_scopes(layers: int, direction: str) -> Any:
    """The scopes of the cells, layer by layer."""
    for i in range(layers):
        if direction == "unidirectional":
            yield f"rnn/multi_rnn_cell/cell_{i}"
        else:
            for way in ("fw", "bw"):
                yield f"stack_bidirectional_rnn/cell_{i}/bidirectional_rnn/{way}"


class CudnnLSTMSaveable(_OpaqueParamsSaveable):
    """The parameters of a CudnnLSTM, as those of CudnnCompatibleLSTMCells."""

    _converter = converters.CudnnParamsFormatConverterLSTM
    _cell_name = "cudnn_compatible_lstm_cell"


class CudnnGRUSaveable(_OpaqueParamsSaveable):
    """The parameters of a CudnnGRU, as those of CudnnCompatibleGRUCells."""

    _converter = converters.CudnnParamsFormatConverterGRU
    _cell_name = "cudnn_compatible_gru_cell"
    _weight_names = (
        "gates/kernel",
        "candidate/input_projection/kernel",
        "candidate/hidden_projection/kernel",
    )
    _bias_names = (
        "gates/bias",
        "candidate/input_projection/bias",
        "candidate/hidden_projection/bias",
    )


class CudnnRNNTanhSaveable(_OpaqueParamsSaveable):
    """The parameters of a CudnnRNNTanh, as those of BasicRNNCells."""

    _converter = converters.CudnnParamsFormatConverterTanh
    _cell_name = "basic_rnn_cell"


class CudnnRNNReluSaveable(_OpaqueParamsSaveable):
    """The parameters of a CudnnRNNRelu, as those of BasicRNNCells with relu."""

    _converter = converters.CudnnParamsFormatConverterRelu
    _cell_name = "basic_rnn_cell"
