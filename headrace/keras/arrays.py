"""`tf.keras.utils` for arrays."""

from __future__ import annotations

from typing import Any

import numpy as np

from headrace.api.export import export


@export("keras.utils.to_categorical")
def to_categorical(y: Any, num_classes: int | None = None, dtype: Any = "float32") -> np.ndarray:
    """One row of `num_classes` for each number of a class: 1 at that number, else 0.

    y: integers in [0, num_classes), of any shape; a last axis of size 1 is left out. num_classes: by default the
    largest number and one.
    """
    numbers = np.array(y, dtype="int")
    shape = numbers.shape
    if len(shape) > 1 and shape[-1] == 1:
        shape = shape[:-1]
    flat = numbers.reshape(-1)
    count = num_classes or int(flat.max()) + 1
    rows = np.zeros((flat.size, count), dtype=dtype)
    rows[np.arange(flat.size), flat] = 1
    return rows.reshape((*shape, count))


@export("keras.utils.normalize")
def normalize(x: np.ndarray, axis: int = -1, order: int = 2) -> np.ndarray:
    """`x` with vectors of norm 1 along `axis`; zero vectors stay."""
    norms = np.atleast_1d(np.linalg.norm(x, order, axis))
    norms[norms == 0] = 1
    return x / np.expand_dims(norms, axis)
