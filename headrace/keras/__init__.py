"""`tf.keras`: layers that own their variables, recurrent cells and layers, and the backend's session and loops.

What belongs here is named by `tf.keras`; what a layer of any kind is lives in `layers/layer_base.py`.
"""

from headrace.keras import (
    activations as activations,
)
from headrace.keras import (
    arrays as arrays,
)
from headrace.keras import (
    backend as backend,
)
from headrace.keras import (
    base_layer as base_layer,
)
from headrace.keras import (
    recurrent as recurrent,
)
from headrace.keras import (
    recurrent_cells as recurrent_cells,
)
from headrace.keras import (
    recurrent_layers as recurrent_layers,
)
