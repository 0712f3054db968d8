"""Functions that carry a state from element to element."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from headrace.api.framework import name_scope
from headrace.data import structure
from headrace.data.function import StructuredFunction
from headrace.graph import raw


def stateful_function(
    function: Callable[..., Any],
    transformation: str,
    state_spec: Any,
    element_spec: Any,
    new_state_of: Callable[[Any], Any],
) -> tuple[StructuredFunction, Any]:
    """The function of (state, element), and the description of all states: their shapes may differ.

    new_state_of: the state in the description of what the function returns. Raises TypeError: states of other classes or
    types.
    """
    while True:
        made = StructuredFunction(function, transformation, (state_spec, element_spec))
        new = new_state_of(made.output_spec)
        for what, of in (("classes", structure.legacy_classes), ("types", structure.legacy_types)):
            before, after = of(state_spec), of(new)
            if structure.flatten(before) != structure.flatten(after):
                raise TypeError(
                    f"The element {what} for the new state must match the initial state. Expected {before}; got {after}."
                )
        shapes = structure.flatten(structure.legacy_shapes(state_spec))
        new_shapes = structure.flatten(structure.legacy_shapes(new))
        weaker = [
            a.most_specific_compatible_shape(b) for a, b in zip(shapes, new_shapes, strict=True)
        ]
        if all(a._dims == b._dims for a, b in zip(shapes, weaker, strict=True)):
            return made, state_spec
        types = structure.legacy_types(state_spec)
        state_spec = structure.from_legacy(
            types, structure.pack_sequence_as(types, weaker), structure.legacy_classes(state_spec)
        )


def reduced(dataset: Any, initial_state: Any, function: Callable[..., Any]) -> Any:
    """See `Dataset.reduce`."""
    with name_scope("initial_state"):
        state = structure.normalize(initial_state)
    made, spec = stateful_function(
        function, "reduce()", structure.spec_of(state), dataset.element_spec, lambda output: output
    )
    found = raw.ReduceDataset(
        input_dataset=dataset._variant_tensor,
        initial_state=structure.to_tensors(spec, state),
        other_arguments=made.captured,
        f=made.ref,
        **structure.attrs_of(spec),
    )
    return structure.from_tensors(spec, found)
