"""What `tensorflow.python.training.slot_creator` has: how optimizers make their variables."""

from headrace.train.slot_creator import (
    create_slot,
    create_slot_with_initializer,
    create_zeros_slot,
)

__all__ = ["create_slot", "create_slot_with_initializer", "create_zeros_slot"]
