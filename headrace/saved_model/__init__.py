"""`tf.saved_model`: models as directories, which a server or another program loads without the code that made them."""

from headrace.saved_model import builder as _builder
from headrace.saved_model import loader as _loader
from headrace.saved_model import signatures as _signatures
