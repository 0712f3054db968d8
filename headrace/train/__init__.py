"""`tf.train`: optimizers, checkpoints, and the loops around them.

What belongs here stands on the api: it composes operations and runs them. File formats are in `io`, the proto of a
graph in `graph/meta_graph.py`.
"""

from headrace.train import (
    adadelta as adadelta,
)
from headrace.train import (
    adagrad as adagrad,
)
from headrace.train import (
    adagrad_da as adagrad_da,
)
from headrace.train import (
    adam as adam,
)
from headrace.train import (
    checkpoint_management as checkpoint_management,
)
from headrace.train import (
    checkpoint_utils as checkpoint_utils,
)
from headrace.train import (
    ftrl as ftrl,
)
from headrace.train import (
    gradient_descent as gradient_descent,
)
from headrace.train import (
    learning_rate_decay as learning_rate_decay,
)
from headrace.train import (
    loss_scale as loss_scale,
)
from headrace.train import (
    mixed_precision as mixed_precision,
)
from headrace.train import (
    momentum as momentum,
)
from headrace.train import (
    moving_averages as moving_averages,
)
from headrace.train import (
    optimizer as optimizer,
)
from headrace.train import (
    proximal as proximal,
)
from headrace.train import (
    rmsprop as rmsprop,
)
from headrace.train import (
    saver as saver,
)
from headrace.train import (
    session_manager as session_manager,
)
from headrace.train import (
    slot_creator as slot_creator,
)
from headrace.train import (
    training_util as training_util,
)
