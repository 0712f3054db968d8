"""`tf.layers.Dense`, `Dropout`, `Flatten` and their functions: the layers that every network has."""

from __future__ import annotations

from typing import Any

import numpy as np

from headrace.api import array_ops, init_ops
from headrace.api.cond import cond, static_predicate
from headrace.api.export import PUBLIC, export
from headrace.api.math_ops import cast
from headrace.api.matmul_ops import matmul
from headrace.api.nn_ops import bias_add
from headrace.api.source import identity
from headrace.core import dtypes
from headrace.core.tensor_shape import TensorShape, as_shape
from headrace.graph import raw
from headrace.layers.base import Layer
from headrace.layers.input_spec import InputSpec
from headrace.layers.named import (
    activation_named,
    config_of_initializer,
    initializer_named,
    linear,
    name_of_activation,
)

tensordot = PUBLIC["tensordot"]


def _function(what: str, value: Any) -> Any:
    """A regularizer or constraint: None or a function. Raises ValueError: something else."""
    if value is not None and not callable(value):
        raise ValueError(f"Could not interpret {what} identifier: {value!r}")
    return value


def _config_of_function(function: Any) -> Any:
    if hasattr(function, "get_config"):
        return {"class_name": type(function).__name__, "config": function.get_config()}
    return getattr(function, "__name__", function)


# ---- Dense


@export("layers.Dense")
class Dense(Layer):
    """activation(inputs @ kernel + bias), with variables `kernel` [last axis of the inputs, units] and `bias` [units].

    activation: a function or its name, None for none. kernel_initializer: where None, that of the variable scope.
    *_regularizer: functions of the variable (activity: of the outputs) whose results become losses.
    *_constraint: functions that optimizers apply to the variable after an update.
    Raises ValueError: inputs of rank below 2 or whose last axis is unknown. TypeError: a type that is not floating.
    """

    def __init__(
        self,
        units: int,
        activation: Any = None,
        use_bias: bool = True,
        kernel_initializer: Any = None,
        bias_initializer: Any = init_ops.Zeros(),  # noqa: B008 - as TensorFlow's signature has it
        kernel_regularizer: Any = None,
        bias_regularizer: Any = None,
        activity_regularizer: Any = None,
        kernel_constraint: Any = None,
        bias_constraint: Any = None,
        trainable: bool = True,
        name: str | None = None,
        **kwargs: Any,
    ) -> None:
        if "input_shape" not in kwargs and "input_dim" in kwargs:
            kwargs["input_shape"] = (kwargs.pop("input_dim"),)
        super().__init__(
            trainable=trainable,
            name=name,
            activity_regularizer=_function("regularizer", activity_regularizer),
            **kwargs,
        )
        self.units = int(units)
        self.activation = activation_named(activation)
        self.use_bias = use_bias
        self.kernel_initializer = initializer_named(kernel_initializer)
        self.bias_initializer = initializer_named(bias_initializer)
        self.kernel_regularizer = _function("regularizer", kernel_regularizer)
        self.bias_regularizer = _function("regularizer", bias_regularizer)
        self.kernel_constraint = _function("constraint", kernel_constraint)
        self.bias_constraint = _function("constraint", bias_constraint)
        self.supports_masking = True
        self.input_spec = InputSpec(min_ndim=2)

    def build(self, input_shape: Any) -> None:
        """Makes the kernel and the bias."""
        dtype = dtypes.as_dtype(self.dtype or dtypes.float32)
        if not (dtype.is_floating or dtype.is_complex):
            raise TypeError(f"Unable to build `Dense` layer with non-floating point dtype {dtype}")
        dims = as_shape(input_shape)._dims
        depth = dims[-1] if dims else None
        if depth is None:
            raise ValueError(
                "The last dimension of the inputs to `Dense` should be defined. Found `None`."
            )
        self.input_spec = InputSpec(min_ndim=2, axes={-1: depth})
        self.kernel = self.add_weight(
            "kernel",
            shape=[depth, self.units],
            initializer=self.kernel_initializer,
            regularizer=self.kernel_regularizer,
            constraint=self.kernel_constraint,
            dtype=self.dtype,
            trainable=True,
        )
        self.bias = None
        if self.use_bias:
            self.bias = self.add_weight(
                "bias",
                shape=[self.units],
                initializer=self.bias_initializer,
                regularizer=self.bias_regularizer,
                constraint=self.bias_constraint,
                dtype=self.dtype,
                trainable=True,
            )
        self.built = True

    def call(self, inputs: Any) -> Any:
        """The outputs: [..., units] for inputs [..., depth]."""
        dims = inputs.shape._dims
        if hasattr(inputs, "dense_shape"):
            outputs = raw.SparseTensorDenseMatMul(
                inputs.indices, inputs.values, inputs.dense_shape, self.kernel
            )
        elif len(dims) > 2:
            outputs = tensordot(inputs, self.kernel, [[len(dims) - 1], [0]])
            outputs.set_shape([*dims[:-1], self.units])
        else:
            if inputs.dtype.base_dtype.name != self.dtype:
                inputs = cast(inputs, self.dtype)
            outputs = matmul(inputs, self.kernel)
        if self.use_bias:
            outputs = bias_add(outputs, self.bias)
        return outputs if self.activation is linear else self.activation(outputs)

    def compute_output_shape(self, input_shape: Any) -> TensorShape:
        """The shape with `units` as its last size. Raises ValueError: rank below 2, the last size unknown."""
        shape = as_shape(input_shape).with_rank_at_least(2)
        if shape._dims is None or shape._dims[-1] is None:
            raise ValueError(
                f"The innermost dimension of input_shape must be defined, but saw: {shape}"
            )
        return TensorShape([*shape._dims[:-1], self.units])

    def get_config(self) -> dict[str, Any]:
        """What `from_config` makes an equal layer of."""
        return {
            **super().get_config(),
            "units": self.units,
            "activation": name_of_activation(self.activation),
            "use_bias": self.use_bias,
            "kernel_initializer": config_of_initializer(self.kernel_initializer),
            "bias_initializer": config_of_initializer(self.bias_initializer),
            "kernel_regularizer": _config_of_function(self.kernel_regularizer),
            "bias_regularizer": _config_of_function(self.bias_regularizer),
            "activity_regularizer": _config_of_function(self.activity_regularizer),
            "kernel_constraint": _config_of_function(self.kernel_constraint),
            "bias_constraint": _config_of_function(self.bias_constraint),
        }


@export("layers.dense")
def dense(
    inputs: Any,
    units: int,
    activation: Any = None,
    use_bias: bool = True,
    kernel_initializer: Any = None,
    bias_initializer: Any = init_ops.Zeros(),  # noqa: B008 - as TensorFlow's signature has it
    kernel_regularizer: Any = None,
    bias_regularizer: Any = None,
    activity_regularizer: Any = None,
    kernel_constraint: Any = None,
    bias_constraint: Any = None,
    trainable: bool = True,
    name: str | None = None,
    reuse: bool | None = None,
) -> Any:
    """activation(inputs @ kernel + bias) with new variables, or with reuse those of the layer `name` (see `Dense`)."""
    layer = Dense(
        units,
        activation=activation,
        use_bias=use_bias,
        kernel_initializer=kernel_initializer,
        bias_initializer=bias_initializer,
        kernel_regularizer=kernel_regularizer,
        bias_regularizer=bias_regularizer,
        activity_regularizer=activity_regularizer,
        kernel_constraint=kernel_constraint,
        bias_constraint=bias_constraint,
        trainable=trainable,
        name=name,
        _scope=name,
        _reuse=reuse,
    )
    return layer.apply(inputs)


# ---- Dropout


@export("layers.Dropout")
class Dropout(Layer):
    """While training, sets the share `rate` of the elements to 0 and scales up the others by 1 / (1 - rate).

    noise_shape: the shape of what decides (1: one decision for the axis, None: the inputs' size).
    """

    def __init__(
        self,
        rate: Any = 0.5,
        noise_shape: Any = None,
        seed: int | None = None,
        name: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(name=name, **kwargs)
        self.rate, self.noise_shape, self.seed = rate, noise_shape, seed
        self.supports_masking = True

    def call(self, inputs: Any, training: Any = False) -> Any:
        """The inputs, with elements dropped where `training` (a bool or a bool tensor)."""
        known = static_predicate(training)
        if known is None:
            return cond(training, lambda: self._dropped(inputs), lambda: identity(inputs))
        return self._dropped(inputs) if known else identity(inputs)

    def _dropped(self, inputs: Any) -> Any:
        noise = self.noise_shape
        if noise is not None and any(size is None for size in noise):
            sizes = array_ops.shape(inputs)
            noise = raw.Pack([sizes[i] if s is None else s for i, s in enumerate(noise)], axis=0)
        return PUBLIC["nn.dropout"](inputs, noise_shape=noise, seed=self.seed, rate=self.rate)

    def compute_output_shape(self, input_shape: Any) -> Any:
        """The shape of the inputs."""
        return input_shape

    def get_config(self) -> dict[str, Any]:
        """What `from_config` makes an equal layer of."""
        own = {"rate": self.rate, "noise_shape": self.noise_shape, "seed": self.seed}
        return {**super().get_config(), **own}


@export("layers.dropout")
def dropout(
    inputs: Any,
    rate: Any = 0.5,
    noise_shape: Any = None,
    seed: int | None = None,
    training: Any = False,
    name: str | None = None,
) -> Any:
    """The inputs, with elements dropped where `training` (see `Dropout`)."""
    return Dropout(rate, noise_shape=noise_shape, seed=seed, name=name).apply(
        inputs, training=training
    )


# ---- Flatten


@export("layers.Flatten")
class Flatten(Layer):
    """Joins all axes but the first; with data_format "channels_first" the second axis becomes the fastest before."""

    def __init__(self, data_format: str | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        data_format = "channels_last" if data_format is None else data_format.lower()
        if data_format not in ("channels_first", "channels_last"):
            raise ValueError(
                'The `data_format` argument must be one of "channels_first", "channels_last". Received: '
                f"{data_format}"
            )
        self.data_format = data_format
        self.input_spec = InputSpec(min_ndim=1)

    def call(self, inputs: Any) -> Any:
        """[batch, all the rest]."""
        dims = inputs.shape._dims
        if self.data_format == "channels_first" and len(dims) > 1:
            inputs = array_ops.transpose(inputs, [0, *range(2, len(dims)), 1])
            dims = inputs.shape._dims
        if all(d is not None for d in dims[1:]):
            outputs = array_ops.reshape(inputs, [-1, int(np.prod(dims[1:], dtype=np.int64))])
        else:
            first = dims[0] if dims[0] is not None else array_ops.shape(inputs)[0]
            outputs = array_ops.reshape(inputs, [first, -1])
        outputs.set_shape(self.compute_output_shape(inputs.shape))
        return outputs

    def compute_output_shape(self, input_shape: Any) -> TensorShape:
        """[batch, the product of the other sizes]."""
        dims = as_shape(input_shape)._dims or (1,)
        known = all(d is not None for d in dims[1:])
        return TensorShape([dims[0], int(np.prod(dims[1:], dtype=np.int64)) if known else None])

    def get_config(self) -> dict[str, Any]:
        """What `from_config` makes an equal layer of."""
        return {**super().get_config(), "data_format": self.data_format}


@export("layers.flatten")
def flatten(inputs: Any, name: str | None = None, data_format: str = "channels_last") -> Any:
    """The inputs with all axes but the first joined (see `Flatten`)."""
    return Flatten(name=name, data_format=data_format).apply(inputs)
