"""`tf.distribute`: one program on several devices, each with its part of the data and its copy of the variables.

A strategy builds the function of a step once for each device; copies of variables, reductions and updates are nodes of
the graph, which the session runs over its devices as it does any other.
"""

from headrace.distribute import (
    mirrored as mirrored,
)
from headrace.distribute import (
    one_device as one_device,
)
