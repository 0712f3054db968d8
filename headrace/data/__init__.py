"""`tf.data`: input pipelines, as nodes of the graph whose elements an iterator of a session gives.

What belongs here describes datasets and adds their nodes; how elements come about is in `ops.datasets`.
"""

from headrace.data import (
    dataset as dataset,
)
from headrace.data import (
    dataset_v1 as dataset_v1,
)
from headrace.data import (
    experimental as experimental,
)
from headrace.data import (
    iterator as iterator,
)
from headrace.data import (
    options as options,
)
from headrace.data import (
    readers as readers,
)
