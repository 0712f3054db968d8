"""What `tensorflow.python.training.training_util` has besides public names: the step as it is before a step."""

from headrace.train.training_util import (
    _get_global_step_read,
    _get_or_create_global_step_read,
    _increment_global_step,
)

__all__ = ["_get_global_step_read", "_get_or_create_global_step_read", "_increment_global_step"]
