"""Signatures: which tensors of a saved graph are its inputs and outputs, by name."""

from __future__ import annotations

from typing import Any

from tensorboard.compat.proto import meta_graph_pb2

from headrace.api.export import export, export_value
from headrace.core import dtypes
from headrace.graph import convert, default

CONSTANTS = {
    "signature_constants": {
        "DEFAULT_SERVING_SIGNATURE_DEF_KEY": "serving_default",
        "CLASSIFY_INPUTS": "inputs",
        "CLASSIFY_METHOD_NAME": "tensorflow/serving/classify",
        "CLASSIFY_OUTPUT_CLASSES": "classes",
        "CLASSIFY_OUTPUT_SCORES": "scores",
        "PREDICT_INPUTS": "inputs",
        "PREDICT_METHOD_NAME": "tensorflow/serving/predict",
        "PREDICT_OUTPUTS": "outputs",
        "REGRESS_INPUTS": "inputs",
        "REGRESS_METHOD_NAME": "tensorflow/serving/regress",
        "REGRESS_OUTPUTS": "outputs",
    },
    "tag_constants": {"SERVING": "serve", "TRAINING": "train", "GPU": "gpu", "TPU": "tpu"},
    "constants": {
        "ASSETS_DIRECTORY": "assets",
        "ASSETS_KEY": "saved_model_assets",
        "LEGACY_INIT_OP_KEY": "legacy_init_op",
        "MAIN_OP_KEY": "saved_model_main_op",
        "SAVED_MODEL_FILENAME_PB": "saved_model.pb",
        "SAVED_MODEL_FILENAME_PBTXT": "saved_model.pbtxt",
        "SAVED_MODEL_SCHEMA_VERSION": 1,
        "VARIABLES_DIRECTORY": "variables",
        "VARIABLES_FILENAME": "variables",
    },
}
for _space, _values in CONSTANTS.items():
    for _name, _value in _values.items():
        export_value(_value, f"saved_model.{_space}.{_name}")
        if _space != "tag_constants":
            export_value(_value, f"saved_model.{_name}")
for _name, _value in CONSTANTS["tag_constants"].items():
    export_value(_value, f"saved_model.{_name}")


@export("saved_model.build_tensor_info", "saved_model.utils.build_tensor_info")
def build_tensor_info(tensor: Any) -> Any:
    """The TensorInfo proto of a tensor (or SparseTensor): its name, type and static shape."""
    if hasattr(tensor, "dense_shape") and hasattr(tensor, "indices") and hasattr(tensor, "values"):
        info = meta_graph_pb2.TensorInfo(dtype=tensor.dtype.base_dtype.as_datatype_enum)
        info.tensor_shape.CopyFrom(tensor.get_shape().as_proto())
        info.coo_sparse.values_tensor_name = tensor.values.name
        info.coo_sparse.indices_tensor_name = tensor.indices.name
        info.coo_sparse.dense_shape_tensor_name = tensor.dense_shape.name
        return info
    info = meta_graph_pb2.TensorInfo(
        name=tensor.name, dtype=dtypes.as_dtype(tensor.dtype).base_dtype.as_datatype_enum
    )
    info.tensor_shape.CopyFrom(tensor.get_shape().as_proto())
    return info


@export("saved_model.get_tensor_from_tensor_info", "saved_model.utils.get_tensor_from_tensor_info")
def get_tensor_from_tensor_info(
    tensor_info: Any, graph: Any = None, import_scope: str | None = None
) -> Any:
    """The tensor that a TensorInfo names. Raises KeyError: the graph has none of this name.

    ValueError: another encoding.
    """
    graph = graph or default.get_default_graph()
    if tensor_info.WhichOneof("encoding") != "name":
        raise ValueError(f"Invalid TensorInfo.encoding: {tensor_info.WhichOneof('encoding')}")
    name = f"{import_scope}/{tensor_info.name}" if import_scope else tensor_info.name
    return graph.get_tensor_by_name(name)


@export("saved_model.build_signature_def", "saved_model.signature_def_utils.build_signature_def")
def build_signature_def(
    inputs: Any = None, outputs: Any = None, method_name: str | None = None
) -> Any:
    """A SignatureDef of dictionaries from names to TensorInfos."""
    signature = meta_graph_pb2.SignatureDef()
    for name, info in (inputs or {}).items():
        signature.inputs[name].CopyFrom(info)
    for name, info in (outputs or {}).items():
        signature.outputs[name].CopyFrom(info)
    if method_name is not None:
        signature.method_name = method_name
    return signature


def _infos(tensors: dict[str, Any]) -> dict[str, Any]:
    return {name: build_tensor_info(tensor) for name, tensor in tensors.items()}


@export(
    "saved_model.predict_signature_def", "saved_model.signature_def_utils.predict_signature_def"
)
def predict_signature_def(inputs: Any, outputs: Any) -> Any:
    """The signature of a model that maps tensors to tensors. Raises ValueError: no inputs, or no outputs."""
    if not inputs:
        raise ValueError("Prediction inputs cannot be None or empty.")
    if not outputs:
        raise ValueError("Prediction outputs cannot be None or empty.")
    return build_signature_def(
        _infos(inputs), _infos(outputs), CONSTANTS["signature_constants"]["PREDICT_METHOD_NAME"]
    )


@export(
    "saved_model.regression_signature_def",
    "saved_model.signature_def_utils.regression_signature_def",
)
def regression_signature_def(examples: Any, predictions: Any) -> Any:
    """The signature of a model from serialized examples to floats. Raises ValueError: missing, or of other types."""
    if examples is None:
        raise ValueError("Regression examples cannot be None.")
    if predictions is None:
        raise ValueError("Regression predictions cannot be None.")
    examples, predictions = (
        convert.convert_to_tensor(examples),
        convert.convert_to_tensor(predictions),
    )
    if examples.dtype != dtypes.string:
        raise ValueError("Regression examples must be a string Tensor.")
    if predictions.dtype != dtypes.float32:
        raise ValueError("Regression output must be a float Tensor.")
    return build_signature_def(
        _infos({"inputs": examples}), _infos({"outputs": predictions}), "tensorflow/serving/regress"
    )


@export(
    "saved_model.classification_signature_def",
    "saved_model.signature_def_utils.classification_signature_def",
)
def classification_signature_def(examples: Any, classes: Any, scores: Any) -> Any:
    """The signature of a model from serialized examples to classes, scores or both. Raises ValueError: other types."""
    if examples is None:
        raise ValueError("Classification examples cannot be None.")
    if classes is None and scores is None:
        raise ValueError("Classification classes and scores cannot both be None.")
    examples = convert.convert_to_tensor(examples)
    if examples.dtype != dtypes.string:
        raise ValueError("Classification examples must be a string Tensor.")
    outputs = {}
    if classes is not None:
        outputs["classes"] = convert.convert_to_tensor(classes)
        if outputs["classes"].dtype != dtypes.string:
            raise ValueError("Classification classes must be a string Tensor.")
    if scores is not None:
        outputs["scores"] = convert.convert_to_tensor(scores)
        if outputs["scores"].dtype != dtypes.float32:
            raise ValueError("Classification scores must be a float Tensor.")
    return build_signature_def(
        _infos({"inputs": examples}), _infos(outputs), "tensorflow/serving/classify"
    )


@export("saved_model.is_valid_signature", "saved_model.signature_def_utils.is_valid_signature")
def is_valid_signature(signature_def: Any) -> bool:
    """Whether a SignatureDef is one that a server can serve."""
    if signature_def is None:
        return False
    inputs, outputs = signature_def.inputs, signature_def.outputs
    floats, strings = dtypes.float32.as_datatype_enum, dtypes.string.as_datatype_enum
    method = signature_def.method_name
    if method == "tensorflow/serving/predict":
        return len(inputs) >= 1 and len(outputs) >= 1
    if set(inputs) != {"inputs"} or inputs["inputs"].dtype != strings:
        return False
    if method == "tensorflow/serving/regress":
        return set(outputs) == {"outputs"} and outputs["outputs"].dtype == floats
    if method == "tensorflow/serving/classify":
        wanted = {"classes": strings, "scores": floats}
        return bool(outputs) and all(wanted.get(n) == o.dtype for n, o in outputs.items())
    return False
