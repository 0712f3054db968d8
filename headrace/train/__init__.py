"""`tf.train`: optimizers, checkpoints, and the loops around them.

What belongs here stands on the api: it composes operations and runs them. File formats are in `io`, the proto of a
graph in `graph/meta_graph.py`.
"""

from headrace.train import (
    checkpoint_management as checkpoint_management,
)
from headrace.train import (
    checkpoint_utils as checkpoint_utils,
)
from headrace.train import (
    saver as saver,
)
