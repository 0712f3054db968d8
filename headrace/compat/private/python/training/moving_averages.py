"""What `tensorflow.python.training.moving_averages` has besides public names: averages of single variables."""

from headrace.train.moving_averages import assign_moving_average, weighted_moving_average

__all__ = ["assign_moving_average", "weighted_moving_average"]
