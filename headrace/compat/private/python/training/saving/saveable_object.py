"""`tensorflow.python.training.saving.saveable_object`: the base classes of what a Saver saves."""

from headrace.train.saveable_object import SaveableObject, SaveSpec

__all__ = ["SaveSpec", "SaveableObject"]
