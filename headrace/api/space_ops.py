"""Blocks of space to the batch or to depth: `tf.space_to_batch_nd`, `tf.depth_to_space`, `tf.image.extract_patches`."""

from __future__ import annotations

from typing import Any

import numpy as np

from headrace.api.array_ops import zeros
from headrace.api.export import export, export_op
from headrace.api.framework import name_scope
from headrace.api.join_ops import stack
from headrace.core import dtypes
from headrace.graph import raw
from headrace.graph.constant_value import constant_value
from headrace.graph.convert import convert_to_tensor
from headrace.graph.tensor import Tensor

export_op(
    "SpaceToBatchND",
    "input, block_shape, paddings",
    "space_to_batch_nd",
    "manip.space_to_batch_nd",
    doc="Zero-pads `input` and moves each place within blocks of space to the batch: [batch * prod(block), ...].",
)
export_op(
    "BatchToSpaceND",
    "input, block_shape, crops",
    "batch_to_space_nd",
    "manip.batch_to_space_nd",
    doc="Undoes `space_to_batch_nd`: moves parts of the batch back to space and crops it.",
)


def _block_size(block_shape: Any, block_size: Any) -> Any:
    """The size of blocks under its newer or its older name. Raises ValueError: both are given."""
    if block_shape is None:
        return block_size
    if block_size is not None:
        raise ValueError("Cannot specify both 'block_size' and 'block_shape'")
    return block_shape


@export("space_to_batch", "nn.space_to_batch")
def space_to_batch(
    input: Any,
    paddings: Any,
    block_size: Any = None,
    name: str | None = None,
    block_shape: Any = None,
) -> Tensor:
    """`space_to_batch_nd` with square blocks of images [batch, height, width, depth]."""
    size = _block_size(block_shape, block_size)
    result = raw.SpaceToBatchND(input, np.array([size, size], np.int64), paddings, name=name)
    result.set_shape(result.shape.with_rank(4))
    return result


@export("batch_to_space")
def batch_to_space(
    input: Any, crops: Any, block_size: Any, name: str | None = None, block_shape: Any = None
) -> Tensor:
    """`batch_to_space_nd` with square blocks of images [batch, height, width, depth]."""
    size = _block_size(block_shape, block_size)
    result = raw.BatchToSpaceND(input, np.array([size, size], np.int64), crops, name=name)
    result.set_shape(result.shape.with_rank(4))
    return result


@export("required_space_to_batch_paddings")
def required_space_to_batch_paddings(
    input_shape: Any, block_shape: Any, base_paddings: Any = None, name: str | None = None
) -> tuple[Tensor, Tensor]:
    """The paddings with which blocks divide space, at least base_paddings, and the crops that undo what was added.

    input_shape, block_shape: [n] int32. base_paddings: [n, 2]. Returns (paddings, crops), both [n, 2].
    Raises ValueError: shapes that do not fit, or a number of axes that is not known.
    """
    with name_scope(name, "required_space_to_batch_paddings", [input_shape, block_shape]):
        input_shape = convert_to_tensor(input_shape, dtype=dtypes.int32, name="input_shape")
        block_shape = convert_to_tensor(block_shape, dtype=dtypes.int32, name="block_shape")
        block_shape.shape.assert_is_fully_defined()
        block_shape.shape.assert_has_rank(1)
        count = block_shape._dims[0]
        if count == 0:
            return zeros([0, 2], dtypes.int32), zeros([0, 2], dtypes.int32)
        input_shape.shape.assert_is_compatible_with([count])
        if base_paddings is None:
            base_paddings = zeros([count, 2], dtypes.int32)
        else:
            base_paddings = convert_to_tensor(
                base_paddings, dtype=dtypes.int32, name="base_paddings"
            )
            base_paddings.shape.assert_is_compatible_with([count, 2])
        known = [constant_value(t) for t in (input_shape, block_shape, base_paddings)]
        size, block, base = (
            known
            if all(v is not None for v in known)
            else (input_shape, block_shape, base_paddings)
        )
        before, after = base[:, 0], base[:, 1]
        more = (block - (size + before + after) % block) % block
        end = after + more
        paddings = stack([[before[i], end[i]] for i in range(count)], name="paddings")
        crops = stack([[0, more[i]] for i in range(count)], name="crops")
        return paddings, crops


@export("space_to_depth", "nn.space_to_depth")
def space_to_depth(
    input: Any, block_size: int, name: str | None = None, data_format: str = "NHWC"
) -> Tensor:
    """Images with each block of block_size * block_size pixels moved to depth."""
    return raw.SpaceToDepth(input, block_size=block_size, data_format=data_format, name=name)


@export("depth_to_space", "nn.depth_to_space")
def depth_to_space(
    input: Any, block_size: int, name: str | None = None, data_format: str = "NHWC"
) -> Tensor:
    """Undoes `space_to_depth`: each pixel's depth becomes a block of block_size * block_size pixels."""
    return raw.DepthToSpace(input, block_size=block_size, data_format=data_format, name=name)


@export("extract_image_patches", "image.extract_image_patches")
def extract_image_patches(
    images: Any,
    ksizes: Any = None,
    strides: Any = None,
    rates: Any = None,
    padding: str | None = None,
    name: str | None = None,
    sizes: Any = None,
) -> Tensor:
    """The patches of `images` ([batch, height, width, depth]) under a moving window, laid flat in depth.

    ksizes (sizes), strides, rates: [1, rows, columns, 1], the window, its steps, and the distance of what it takes.
    padding: "VALID" or "SAME". Raises ValueError: both names of the window's size are given.
    """
    if sizes is not None:
        if ksizes is not None:
            raise ValueError("Cannot specify both 'ksizes' and 'sizes'")
        ksizes = sizes
    return raw.ExtractImagePatches(
        images, ksizes=ksizes, strides=strides, rates=rates, padding=padding, name=name
    )


@export("image.extract_patches")
def extract_patches(
    images: Any, sizes: Any, strides: Any, rates: Any, padding: str, name: str | None = None
) -> Tensor:
    """As `tf.image.extract_image_patches`."""
    return raw.ExtractImagePatches(
        images, ksizes=sizes, strides=strides, rates=rates, padding=padding, name=name
    )


export_op(
    "ExtractVolumePatches",
    "input, ksizes, strides, padding",
    "extract_volume_patches",
    doc="The patches of volumes ([batch, planes, rows, columns, depth]) under a moving window, laid flat in depth.",
)
