"""`tf.keras.layers.Layer`: a layer that owns its variables, and `tf.keras.Input`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from headrace.api import init_ops
from headrace.api.export import PUBLIC, export
from headrace.api.framework import name_scope
from headrace.api.source import placeholder
from headrace.api.variable_arguments import VariableAggregation, VariableSynchronization
from headrace.core import dtypes, nest
from headrace.core.tensor_shape import as_shape
from headrace.graph import convert
from headrace.keras import backend
from headrace.layers.layer_base import LayerBase, accepts, checked_trainable, unique_layer_name
from headrace.layers.named import initializer_named

_OPTIONS = frozenset("collections experimental_autocast caching_device getter".split())


@export("keras.layers.Layer")
class Layer(LayerBase):
    """A layer that owns its variables: they are made once, under its name, and never looked up by name.

    trainable: whether its variables are to be trained. dtype: their type, where None that of the first input, else `floatx`.
    dynamic: accepted. Layers that are attributes of a layer, or elements of such lists, belong to it.
    """

    def __init__(
        self,
        trainable: bool = True,
        name: str | None = None,
        dtype: Any = None,
        dynamic: bool = False,
        **kwargs: Any,
    ) -> None:
        self._dynamic = dynamic
        if kwargs.get("input_dim") is not None:
            kwargs.setdefault("input_shape", (kwargs["input_dim"],))
        kwargs.pop("input_dim", None)
        super().__init__(trainable=trainable, name=name, dtype=dtype, **kwargs)

    @property
    def dynamic(self) -> bool:
        """Whether the layer was declared to run eagerly."""
        return self._dynamic

    # ---- the layers inside

    def _sublayers(self) -> list[LayerBase]:
        found: dict[int, LayerBase] = {}
        for value in list(vars(self).values()):
            parts = value if isinstance(value, (list, tuple)) else [value]
            for part in parts if not isinstance(value, dict) else value.values():
                if isinstance(part, LayerBase):
                    found.setdefault(id(part), part)
        return list(found.values())

    @property
    def submodules(self) -> tuple[LayerBase, ...]:
        """The layers inside, and those inside these."""
        found: dict[int, LayerBase] = {}
        for layer in self._sublayers():
            found[id(layer)] = layer
            found.update({id(s): s for s in getattr(layer, "submodules", ())})
        return tuple(found.values())

    @property
    def trainable(self) -> bool:
        """Whether the variables of the layer, and of the layers inside, are to be trained."""
        return self._trainable

    @trainable.setter
    def trainable(self, value: bool) -> None:
        self._trainable = value
        for layer in self._sublayers():
            layer.trainable = value

    @property
    def trainable_weights(self) -> list[Any]:
        """The variables that are trained, those of the layers inside last."""
        if not self.trainable:
            return []
        inside = [w for layer in self._sublayers() for w in layer.trainable_weights]
        return _distinct([*self._trainable_weights, *inside])

    @property
    def non_trainable_weights(self) -> list[Any]:
        """The variables that are not trained, those of the layers inside last."""
        inside = self._sublayers()
        if self.trainable:
            rest = [w for layer in inside for w in layer.non_trainable_weights]
            return _distinct([*self._non_trainable_weights, *rest])
        rest = [w for layer in inside for w in layer.weights]
        return _distinct([*self._trainable_weights, *self._non_trainable_weights, *rest])

    @property
    def losses(self) -> list[Any]:
        """The losses of the layer and of the layers inside."""
        return [*super().losses, *(loss for s in self._sublayers() for loss in s.losses)]

    @property
    def updates(self) -> list[Any]:
        """The updates of the layer and of the layers inside."""
        if not self.trainable and not self.stateful:
            return []
        own = [update for update, _ in self._updates]
        return [*own, *(update for s in self._sublayers() for update in s.updates)]

    # ---- variables

    def add_weight(
        self,
        name: str | None = None,
        shape: Any = None,
        dtype: Any = None,
        initializer: Any = None,
        regularizer: Any = None,
        trainable: bool | None = None,
        constraint: Any = None,
        partitioner: Any = None,
        use_resource: bool | None = None,
        synchronization: Any = VariableSynchronization.AUTO,
        aggregation: Any = VariableAggregation.NONE,
        **kwargs: Any,
    ) -> Any:
        """A new variable of the layer, under its name scope.

        dtype: where None the layer's, else `floatx`. initializer: by default Glorot's uniform distribution, zeros for types
        that are not floating. regularizer: a function of the variable whose result becomes a loss.
        Raises ValueError: a partitioner, trainable though read by replicas alone. TypeError: unknown arguments.
        """
        for option in kwargs:
            if option not in _OPTIONS:
                raise TypeError("Unknown keyword argument:", option)
        if partitioner is not None:
            raise ValueError(f"Layer {self.name}: variables of Keras layers are not partitioned")
        trainable = checked_trainable(trainable, synchronization)
        trainable = trainable is None or trainable
        kind = dtypes.as_dtype(dtype or self.dtype or backend.floatx())
        if self._dtype is None:
            self._dtype = kind.base_dtype.name
        maker = initializer_named(initializer) or _default_initializer(name, kind)
        size = as_shape(() if shape is None else shape).as_list()
        variable = PUBLIC["Variable"](
            initial_value=lambda: maker(size, dtype=kind),
            dtype=kind.base_dtype,
            name=name,
            trainable=trainable,
            constraint=constraint,
            use_resource=True if use_resource is None else use_resource,
            collections=kwargs.get("collections"),
            synchronization=synchronization,
            aggregation=aggregation,
        )
        backend.track_variable(variable)
        if regularizer is not None:
            with name_scope(f"{name or 'weight'}/Regularizer"):
                self.add_loss(regularizer(variable))
        self._file_weight(variable, trainable)
        return variable

    def get_weights(self) -> list[Any]:
        """The values of the weights, in the default session or Keras' own; there they are initialised if need be."""
        return backend.batch_get_value(self.weights)

    def _load(self, pairs: list[tuple[Any, Any]]) -> None:
        backend.batch_set_value(pairs)

    # ---- calling

    def compute_mask(self, inputs: Any, mask: Any = None) -> Any:
        """The mask of the outputs: that of the inputs. Raises TypeError: a mask, though the layer supports none."""
        if not self.supports_masking:
            if any(m is not None for m in nest.flatten(mask)):
                raise TypeError(
                    f"Layer {self.name} does not support masking, but was passed {mask}"
                )
            return None
        return mask

    def __call__(self, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        """As LayerBase's; a mask that the inputs carry goes to `call`, and to the outputs."""
        masks = [getattr(t, "_keras_mask", None) for t in nest.flatten(inputs)]
        mask = None
        if any(m is not None for m in masks):
            mask = nest.pack_sequence_as(inputs, masks) if nest.is_nested(inputs) else masks[0]
        if mask is not None and "mask" not in kwargs and accepts(self.call, "mask"):
            kwargs["mask"] = mask
        mask = kwargs.get("mask", mask)
        outputs = super().__call__(inputs, *args, **kwargs)
        if mask is not None and (self.supports_masking or _overrides_mask(self)):
            self._pass_mask_on(outputs, self.compute_mask(inputs, mask))
        return outputs

    @staticmethod
    def _pass_mask_on(outputs: Any, masks: Any) -> None:
        flat = masks if isinstance(masks, (list, tuple)) else [masks]
        for tensor, mask in zip(nest.flatten(outputs), flat, strict=False):
            if mask is not None:
                tensor._keras_mask = mask

    def get_config(self) -> dict[str, Any]:
        """What `from_config` makes an equal layer of."""
        config = super().get_config()
        return {**config, "dynamic": True} if self._dynamic else config


def _overrides_mask(layer: Layer) -> bool:
    return type(layer).compute_mask is not Layer.compute_mask


def _distinct(values: list[Any]) -> list[Any]:
    return list({id(v): v for v in values}.values())


def _default_initializer(name: str | None, kind: Any) -> Callable[..., Any]:
    if kind.is_floating:
        return init_ops.GlorotUniform()
    if kind.is_integer or kind == dtypes.bool:
        return init_ops.Zeros()
    raise ValueError(
        f"An initializer for variable {name} of type {kind.base_dtype} is required for layer"
    )


@export("keras.Input", "keras.layers.Input")
def Input(
    shape: Any = None,
    batch_size: int | None = None,
    name: str | None = None,
    dtype: Any = None,
    sparse: bool = False,
    tensor: Any = None,
    ragged: bool = False,
    **kwargs: Any,
) -> Any:
    """A tensor to be fed: [batch_size, shape...], by default of type `floatx`; or `tensor` itself.

    sparse: a sparse placeholder. Raises ValueError: no shape, unknown arguments, ragged.
    """
    if "batch_shape" in kwargs:
        batch_size, *shape = kwargs.pop("batch_shape")
    if kwargs:
        raise ValueError(f"Unrecognized keyword arguments: {sorted(kwargs)}")
    if ragged:
        raise ValueError("Input: ragged inputs are not supported")
    if tensor is not None:
        return convert.convert_to_tensor(tensor)
    if shape is None:
        raise ValueError(
            "Please provide to Input either a `shape` or a `tensor` argument. Note that `shape` does not include the batch "
            "dimension."
        )
    size = [batch_size, *as_shape(shape).as_list()]
    label = name or unique_layer_name("input")
    kind = dtypes.as_dtype(dtype or backend.floatx())
    if sparse:
        return PUBLIC["sparse_placeholder"](kind, shape=size, name=label)
    return placeholder(kind, shape=size, name=label)
