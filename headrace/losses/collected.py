"""The collection of losses: `tf.losses.add_loss`, `tf.losses.get_total_loss`, ..."""

from __future__ import annotations

from typing import Any

from headrace.api.export import export
from headrace.api.framework import GraphKeys
from headrace.graph import default, raw
from headrace.graph.convert import convert_to_tensor
from headrace.graph.tensor import Tensor


@export("losses.add_loss")
def add_loss(loss: Tensor, loss_collection: Any = GraphKeys.LOSSES) -> None:
    """Files `loss` in a collection, unless `loss_collection` is None."""
    if loss_collection:
        default.get_default_graph().add_to_collection(loss_collection, loss)


@export("losses.get_losses")
def get_losses(scope: str | None = None, loss_collection: Any = GraphKeys.LOSSES) -> list[Tensor]:
    """The losses filed so far; with `scope` those whose name matches it."""
    return default.get_default_graph().get_collection(loss_collection, scope)


@export("losses.get_regularization_losses")
def get_regularization_losses(scope: str | None = None) -> list[Tensor]:
    """The regularization losses filed so far; with `scope` those whose name matches it."""
    return default.get_default_graph().get_collection(GraphKeys.REGULARIZATION_LOSSES, scope)


@export("losses.get_regularization_loss")
def get_regularization_loss(
    scope: str | None = None, name: str = "total_regularization_loss"
) -> Tensor:
    """The sum of the regularization losses, 0 where there are none."""
    losses = get_regularization_losses(scope)
    return _sum(losses, name) if losses else convert_to_tensor(0.0)


@export("losses.get_total_loss")
def get_total_loss(
    add_regularization_losses: bool = True, name: str = "total_loss", scope: str | None = None
) -> Tensor:
    """The sum of the losses filed so far, with the regularization losses unless add_regularization_losses is false.

    Raises ValueError: there are none.
    """
    losses = get_losses(scope)
    if add_regularization_losses:
        losses = losses + get_regularization_losses(scope)
    if not losses:
        raise ValueError("There are no losses to sum: none was filed in the collection.")
    return _sum(losses, name)


def _sum(losses: list[Tensor], name: str) -> Tensor:
    return raw.Identity(losses[0], name=name) if len(losses) == 1 else raw.AddN(losses, name=name)
