"""`tf.layers.InputSpec`: what a layer demands of its inputs."""

from __future__ import annotations

from typing import Any

from headrace.api.export import export
from headrace.core import dtypes, nest
from headrace.core.tensor_shape import as_shape


@export("layers.InputSpec")
class InputSpec:
    """The type, rank, and sizes along some axes that an input must have; what is None may be anything."""

    def __init__(
        self,
        dtype: Any = None,
        shape: Any = None,
        ndim: int | None = None,
        max_ndim: int | None = None,
        min_ndim: int | None = None,
        axes: dict[int, int | None] | None = None,
    ) -> None:
        self.dtype = None if dtype is None else dtypes.as_dtype(dtype).name
        self.shape = shape
        self.ndim = len(shape) if shape is not None else ndim
        self.max_ndim, self.min_ndim = max_ndim, min_ndim
        self.axes = {int(k): axes[k] for k in axes} if axes else {}
        highest = self.ndim if self.ndim is not None else max_ndim
        if self.axes and highest is not None and max(self.axes) > highest - 1:
            raise ValueError(
                f"Axis {max(self.axes)} is greater than the maximum allowed value: {highest - 1}"
            )

    def __repr__(self) -> str:
        known = {k: v for k, v in vars(self).items() if v not in (None, {})}
        return f"InputSpec({', '.join(f'{k}={v}' for k, v in known.items())})"


def check_inputs(specs: Any, inputs: Any, layer_name: str) -> None:
    """Raises ValueError where `inputs` are not what the specs of the layer demand."""
    if not specs:
        return
    specs, flat = nest.flatten(specs), nest.flatten(inputs)
    if len(specs) != len(flat):
        raise ValueError(
            f"Layer {layer_name} expects {len(specs)} inputs, but it received {len(flat)} input tensors. Inputs received: "
            f"{inputs}"
        )
    for number, (spec, tensor) in enumerate(zip(specs, flat, strict=True)):
        if spec is not None:
            _check(
                spec,
                tensor,
                f"Input {number} of layer {layer_name} is incompatible with the layer: ",
            )


def _check(spec: InputSpec, tensor: Any, where: str) -> None:
    dims = as_shape(tensor.shape)._dims
    if dims is None:
        if spec.ndim is not None or spec.min_ndim is not None or spec.max_ndim is not None:
            raise ValueError(
                f"{where}its rank is undefined, but the layer requires a defined rank."
            )
        return
    sizes, rank = list(dims), len(dims)
    if spec.ndim is not None and rank != spec.ndim:
        raise ValueError(
            f"{where}expected ndim={spec.ndim}, found ndim={rank}. Full shape received: {sizes}"
        )
    if spec.max_ndim is not None and rank > spec.max_ndim:
        raise ValueError(f"{where}expected max_ndim={spec.max_ndim}, found ndim={rank}")
    if spec.min_ndim is not None and rank < spec.min_ndim:
        raise ValueError(
            f"{where}: expected min_ndim={spec.min_ndim}, found ndim={rank}. Full shape received: {sizes}"
        )
    if spec.dtype is not None and tensor.dtype.base_dtype.name != spec.dtype:
        raise ValueError(f"{where}expected dtype={spec.dtype}, found dtype={tensor.dtype.name}")
    for axis, size in spec.axes.items():
        if size is not None and dims[axis] not in (size, None):
            raise ValueError(
                f"{where}expected axis {axis} of input shape to have value {size} but received input with shape {sizes}"
            )
    if spec.shape is not None:
        for wanted, size in zip(as_shape(spec.shape)._dims, dims, strict=True):
            if wanted is not None and size is not None and wanted != size:
                raise ValueError(f"{where}expected shape={tuple(spec.shape)}, found shape={sizes}")
