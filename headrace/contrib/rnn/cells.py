"""Cells that TensorFlow kept in contrib: layer normalisation, the fused LSTM and GRU (here composed), projections."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from headrace.api import init_ops, join_ops
from headrace.api.embedding_ops import embedding_lookup
from headrace.api.export import PUBLIC
from headrace.api.get_variable import get_variable
from headrace.api.logging import warning
from headrace.api.math_ops import sigmoid
from headrace.api.matmul_ops import matmul
from headrace.api.nn_ops import bias_add, dropout
from headrace.contrib.rnn.parts import linear, normalized
from headrace.core import dtypes
from headrace.graph.tensor import Tensor
from headrace.layers.rnn_cell import GRUCell, LSTMCell, LSTMStateTuple
from headrace.layers.rnn_cell_base import RNNCell, assert_like_rnncell

tanh = PUBLIC["tanh"]


class LayerNormBasicLSTMCell(RNNCell):
    """The LSTM whose gates and state are normalised over the units, with dropout on what it is about to remember.

    norm_gain, norm_shift: with which the normalisations begin. dropout_keep_prob: a float or a scalar tensor.
    layer_norm: False for a bias in place of the normalisations.
    """

    def __init__(
        self,
        num_units: int,
        forget_bias: float = 1.0,
        input_size: Any = None,
        activation: Callable[..., Any] = tanh,
        layer_norm: bool = True,
        norm_gain: float = 1.0,
        norm_shift: float = 0.0,
        dropout_keep_prob: Any = 1.0,
        dropout_prob_seed: int | None = None,
        reuse: Any = None,
    ) -> None:
        super().__init__(_reuse=reuse)
        if input_size is not None:
            warning("%s: The input_size parameter is deprecated.", self)
        self._num_units, self._forget_bias, self._activation = num_units, forget_bias, activation
        self._layer_norm, self._norm_gain, self._norm_shift = layer_norm, norm_gain, norm_shift
        self._keep_prob, self._seed = dropout_keep_prob, dropout_prob_seed

    @property
    def state_size(self) -> LSTMStateTuple:
        """The sizes of c and h."""
        return LSTMStateTuple(self._num_units, self._num_units)

    @property
    def output_size(self) -> int:
        """The number of units."""
        return self._num_units

    def _norm(self, x: Tensor, scope: str) -> Tensor:
        return normalized(x, scope, self._norm_gain, self._norm_shift)

    def call(self, inputs: Any, state: Any) -> tuple[Tensor, LSTMStateTuple]:
        """One step: h, and (c, h)."""
        c, h = state
        x = join_ops.concat([inputs, h], 1)
        kernel = get_variable("kernel", [x.shape[-1], 4 * self._num_units], x.dtype)
        gates = matmul(x, kernel)
        if not self._layer_norm:
            gates = bias_add(gates, get_variable("bias", [4 * self._num_units], x.dtype))
        parts = join_ops.split(value=gates, num_or_size_splits=4, axis=1)
        if self._layer_norm:
            names = ("input", "transform", "forget", "output")
            parts = [self._norm(p, n) for p, n in zip(parts, names, strict=True)]
        i, j, f, o = parts
        g = self._activation(j)
        if not isinstance(self._keep_prob, float) or self._keep_prob < 1:
            g = dropout(g, self._keep_prob, seed=self._seed)
        new_c = c * sigmoid(f + self._forget_bias) + sigmoid(i) * g
        if self._layer_norm:
            new_c = self._norm(new_c, "state")
        new_h = self._activation(new_c) * sigmoid(o)
        return new_h, LSTMStateTuple(new_c, new_h)


class LSTMBlockCell(LSTMCell):
    """The LSTM that TensorFlow has as one op; XLA makes one of the parts. Variables are those of LSTMCell."""

    _diagonals = "ifo"

    def __init__(
        self,
        num_units: int,
        forget_bias: float = 1.0,
        cell_clip: float | None = None,
        use_peephole: bool = False,
        dtype: Any = None,
        reuse: Any = None,
        name: str | None = "lstm_cell",
    ) -> None:
        super().__init__(
            num_units,
            use_peepholes=use_peephole,
            cell_clip=cell_clip if cell_clip is not None and cell_clip > 0 else None,
            forget_bias=forget_bias,
            reuse=reuse,
            dtype=dtype,
            name=name,
        )

    def _clipped(self, c: Tensor) -> Tensor:
        # The gradient of TensorFlow's op goes through the clipping as if it were not there.
        return c + PUBLIC["stop_gradient"](super()._clipped(c) - c)


class GRUBlockCellV2(GRUCell):
    """The GRU that TensorFlow has as one op; XLA makes one of the parts. Variables are those of GRUCell.

    cell_size: an older name of num_units. Raises ValueError: neither, or both.
    """

    def __init__(
        self,
        num_units: int | None = None,
        cell_size: int | None = None,
        reuse: Any = None,
        name: str | None = "gru_cell",
    ) -> None:
        if (num_units is None) == (cell_size is None):
            raise ValueError("Either num_units or cell_size (deprecated) must be given, not both")
        units: Any = cell_size if num_units is None else num_units
        super().__init__(units, reuse=reuse, name=name)


class GRUBlockCell(GRUBlockCellV2):
    """As GRUBlockCellV2, with variables of other names: w_ru, b_ru, w_c, b_c."""

    def build(self, input_shape: Any) -> None:
        """Makes the kernels and biases of the gates and of the candidate."""
        units, kind = self._num_units, self.dtype or dtypes.float32
        rows = self._depth_of(input_shape) + units
        ones = init_ops.Constant(1.0, dtype=kind)
        self._gate_kernel = self.add_variable("w_ru", [rows, 2 * units])
        self._gate_bias = self.add_variable("b_ru", [2 * units], initializer=ones)
        self._candidate_kernel = self.add_variable("w_c", [rows, units])
        self._candidate_bias = self.add_variable("b_c", [units], initializer=self._zeros())
        self.built = True


class _Around(RNNCell):
    """A cell around another one, with variables of its own."""

    def __init__(self, cell: Any, reuse: Any) -> None:
        super().__init__(_reuse=reuse)
        assert_like_rnncell("cell", cell)
        self._cell = cell

    @property
    def state_size(self) -> Any:
        """That of the cell inside."""
        return self._cell.state_size

    @property
    def output_size(self) -> Any:
        """That of the cell inside."""
        return self._cell.output_size

    def zero_state(self, batch_size: Any, dtype: Any) -> Any:
        """That of the cell inside."""
        return self._cell.zero_state(batch_size, dtype)


class EmbeddingWrapper(_Around):
    """A cell whose inputs are numbers of classes, for which it keeps vectors."""

    def __init__(
        self,
        cell: Any,
        embedding_classes: int,
        embedding_size: int,
        initializer: Any = None,
        reuse: Any = None,
    ) -> None:
        super().__init__(cell, reuse)
        if embedding_classes <= 0 or embedding_size <= 0:
            raise ValueError(
                f"Both embedding_classes and embedding_size must be > 0: {embedding_classes}, {embedding_size}."
            )
        self._classes, self._size, self._initializer = (
            embedding_classes,
            embedding_size,
            initializer,
        )

    def call(self, inputs: Any, state: Any) -> tuple[Any, Any]:
        """One step of the cell inside on the vectors."""
        limit = 3.0**0.5  # uniform numbers up to here have variance 1
        table = get_variable(
            "embedding",
            [self._classes, self._size],
            (state[0] if isinstance(state, tuple) else state).dtype,
            initializer=self._initializer or init_ops.RandomUniform(-limit, limit),
        )
        return self._cell(embedding_lookup(table, PUBLIC["reshape"](inputs, [-1])), state)


class InputProjectionWrapper(_Around):
    """A cell whose inputs are first projected to `num_proj` columns."""

    def __init__(
        self,
        cell: Any,
        num_proj: int,
        activation: Callable[..., Any] | None = None,
        input_size: Any = None,
        reuse: Any = None,
    ) -> None:
        super().__init__(cell, reuse)
        if input_size is not None:
            warning("%s: The input_size parameter is deprecated.", self)
        self._num_proj, self._activation = num_proj, activation

    def call(self, inputs: Any, state: Any) -> tuple[Any, Any]:
        """One step of the cell inside on the projected inputs."""
        projected = linear(inputs, self._num_proj)
        return self._cell(self._activation(projected) if self._activation else projected, state)


class OutputProjectionWrapper(_Around):
    """A cell whose outputs are projected to `output_size` columns."""

    def __init__(
        self,
        cell: Any,
        output_size: int,
        activation: Callable[..., Any] | None = None,
        reuse: Any = None,
    ) -> None:
        super().__init__(cell, reuse)
        if output_size < 1:
            raise ValueError(f"Parameter output_size must be > 0: {output_size}.")
        self._output_size, self._activation = output_size, activation

    @property
    def output_size(self) -> int:
        """The number of columns."""
        return self._output_size

    def call(self, inputs: Any, state: Any) -> tuple[Any, Any]:
        """One step of the cell inside, its output projected."""
        output, state = self._cell(inputs, state)
        projected = linear(output, self._output_size)
        return self._activation(projected) if self._activation else projected, state
