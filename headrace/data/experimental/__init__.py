"""`tf.data.experimental`: further transformations."""

from headrace.data.experimental import (
    grouping as grouping,
)
from headrace.data.experimental import (
    transformations as transformations,
)
