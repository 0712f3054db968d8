"""`tf.contrib.eager`: functions of the graph, and gradients of Python functions, under their older names."""

from headrace.api.custom_gradient import (
    custom_gradient as custom_gradient,
)
from headrace.api.function import (
    function as function,
)
from headrace.api.gradient_tape import (
    GradientTape as GradientTape,
)
from headrace.api.resource_variable import (
    ResourceVariable as Variable,
)
from headrace.api.template import (
    make_template as make_template,
)
from headrace.contrib.eager.functions import (
    defun as defun,
)
from headrace.contrib.eager.functions import (
    executing_eagerly as executing_eagerly,
)
from headrace.contrib.eager.functions import (
    executing_eagerly as in_eager_mode,
)
from headrace.contrib.eager.functions import (
    gradients_function as gradients_function,
)
from headrace.contrib.eager.functions import (
    implicit_gradients as implicit_gradients,
)
from headrace.contrib.eager.functions import (
    implicit_value_and_gradients as implicit_value_and_gradients,
)
from headrace.contrib.eager.functions import (
    py_func as py_func,
)
from headrace.contrib.eager.functions import (
    value_and_gradients_function as value_and_gradients_function,
)
from headrace.graph.type_spec import (
    TensorSpec as TensorSpec,
)
