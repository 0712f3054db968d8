"""`tf.GradientTape` while graphs are built: the gradients of what is computed, as further nodes."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from headrace.api.export import export
from headrace.api.tensor_array import TensorArray
from headrace.api.while_loop import while_loop
from headrace.autodiff.gradients import UnconnectedGradients, gradients
from headrace.core import dtypes, nest
from headrace.graph import convert, raw
from headrace.graph.tensor import Tensor


@export("GradientTape")
class GradientTape:
    """Differentiates what is built inside its block, or any tensor of the graph.

    In a graph everything is recorded already: `watch` has nothing to do, and `gradient` may be asked as often
    as one likes
    if the tape is persistent, else once.
    """

    def __init__(self, persistent: bool = False, watch_accessed_variables: bool = True) -> None:
        self._persistent = persistent
        self._watch_accessed_variables = watch_accessed_variables
        self._used = False
        self._recording = False
        self._watched: list[Any] = []

    def __enter__(self) -> GradientTape:
        if self._recording:
            raise ValueError("Tape is already recording.")
        self._recording = True
        return self

    def __exit__(self, *exception: Any) -> None:
        self._recording = False

    def watch(self, tensor: Any) -> None:
        """Notes that gradients with respect to `tensor` (or tensors of a structure) will be asked for."""
        for item in nest.flatten(tensor):
            if not isinstance(item, Tensor) and not hasattr(item, "_as_graph_element"):
                raise ValueError(f"Passed in object of type {type(item)}, not tf.Tensor")
            self._watched.append(item)

    def watched_variables(self) -> tuple[Any, ...]:
        """The variables among what was watched."""
        return tuple(v for v in self._watched if hasattr(v, "initializer"))

    @contextlib.contextmanager
    def stop_recording(self) -> Iterator[None]:
        """A block that would not be recorded; in a graph it makes no difference."""
        if not self._recording:
            raise ValueError("Tape is not recording.")
        self._recording = False
        try:
            yield
        finally:
            self._recording = True

    def reset(self) -> None:
        """Starts again."""
        self._used = False
        self._watched = []

    def gradient(
        self,
        target: Any,
        sources: Any,
        output_gradients: Any = None,
        unconnected_gradients: Any = UnconnectedGradients.NONE,
    ) -> Any:
        """The gradients of `target` with respect to `sources`, in the structure of `sources`; None where there is none.

        Raises RuntimeError: a second time, of a tape that is not persistent.
        """
        if self._used and not self._persistent:
            raise RuntimeError(
                "GradientTape.gradient can only be called once on non-persistent tapes."
            )
        self._used = True
        flat = nest.flatten(sources)
        targets = [convert.convert_to_tensor(t) for t in nest.flatten(target)]
        given = None if output_gradients is None else nest.flatten(output_gradients)
        found = gradients(targets, flat, grad_ys=given, unconnected_gradients=unconnected_gradients)
        return nest.pack_sequence_as(sources, found)

    def jacobian(
        self,
        target: Any,
        sources: Any,
        unconnected_gradients: Any = UnconnectedGradients.NONE,
        parallel_iterations: int | None = None,
        experimental_use_pfor: bool = True,
    ) -> Any:
        """The derivatives of every element of `target` with respect to every element of each source.

        target: [T...]. Returns [T..., S...] for a source of shape [S...].
        """
        target = convert.convert_to_tensor(target)
        flat_sources = nest.flatten(sources)
        flat = raw.Reshape(target, [-1])
        count = raw.Size(target)
        probe = gradients(raw.StridedSlice(flat, [0], [1], [1]), flat_sources)
        known = [i for i, g in enumerate(probe) if g is not None]
        arrays = [TensorArray(flat_sources[i].dtype.base_dtype, size=count) for i in known]

        def row(i: Any, rows: list[TensorArray]) -> Any:
            element = raw.GatherV2(flat, i, 0)
            grads = gradients(element, [flat_sources[k] for k in known])
            return i + 1, [
                a.write(i, convert.convert_to_tensor(g)) for a, g in zip(rows, grads, strict=True)
            ]

        _, rows = while_loop(
            lambda i, _: i < count,
            row,
            [convert.constant_from_value(0, dtypes.int32, None), arrays],
            parallel_iterations=parallel_iterations or 10,
        )
        results: list[Any] = [None] * len(flat_sources)
        for place, array in zip(known, rows, strict=True):
            stacked = array.stack()
            shape = raw.ConcatV2(
                [
                    raw.Shape(target),
                    raw.StridedSlice(raw.Shape(stacked), [1], [0], [1], end_mask=1),
                ],
                0,
            )
            jacobian = raw.Reshape(stacked, shape)
            jacobian.set_shape(target.shape.concatenate(flat_sources[place].shape))
            results[place] = jacobian
        return nest.pack_sequence_as(sources, results)
