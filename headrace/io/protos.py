"""Protocol messages of the checkpoint formats.

TensorBoard ships TensorFlow's graph and event messages compiled, but not these; they are
defined here by descriptor, with TensorFlow's packages, names and numbers. They live in a pool of
their own: in the process-wide pool they would clash with whatever else defines them, which may
be a real TensorFlow, and registering a file name twice there is fatal.
"""

from __future__ import annotations

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from tensorboard.compat.proto import (
    resource_handle_pb2,
    tensor_pb2,
    tensor_shape_pb2,
    types_pb2,
    versions_pb2,
)

_Field = descriptor_pb2.FieldDescriptorProto
_FRAMEWORK = "tensorflow/core/framework/"
_pool = descriptor_pool.DescriptorPool()


def _add_tensorboard_file(module) -> None:
    """Adds a file of TensorBoard's under the package and path that it has in TensorFlow."""
    proto = descriptor_pb2.FileDescriptorProto()
    module.DESCRIPTOR.CopyToProto(proto)
    _rename(proto)
    _pool.Add(proto)


def _rename(proto: descriptor_pb2.FileDescriptorProto) -> None:
    def in_tensorflow(path: str) -> str:
        return _FRAMEWORK + path.rsplit("/", 1)[1]

    def rename_types(message: descriptor_pb2.DescriptorProto) -> None:
        for field in message.field:
            if field.type_name:
                field.type_name = field.type_name.replace(".tensorboard.", ".tensorflow.", 1)
        for nested in message.nested_type:
            rename_types(nested)

    proto.name = in_tensorflow(proto.name)
    proto.package = "tensorflow"
    proto.dependency[:] = [in_tensorflow(path) for path in proto.dependency]
    for message in proto.message_type:
        rename_types(message)


def _field(name: str, number: int, kind: str, repeated: bool = False) -> _Field:
    """Returns a field; `kind` is a scalar type, or a message or `enum` with its full name."""
    field = _Field(name=name, number=number)
    field.label = _Field.LABEL_REPEATED if repeated else _Field.LABEL_OPTIONAL
    if kind.startswith("enum "):
        field.type, field.type_name = _Field.TYPE_ENUM, kind[5:]
    elif kind.startswith("."):
        field.type, field.type_name = _Field.TYPE_MESSAGE, kind
    else:
        field.type = _Field.Type.Value(f"TYPE_{kind.upper()}")
    return field


def _message(name: str, *fields: _Field) -> descriptor_pb2.DescriptorProto:
    return descriptor_pb2.DescriptorProto(name=name, field=fields)


def _add_file(path: str, dependencies: list[str], *messages) -> None:
    _pool.Add(
        descriptor_pb2.FileDescriptorProto(
            name=path,
            package="tensorflow",
            syntax="proto3",
            dependency=[f"{_FRAMEWORK}{name}.proto" for name in dependencies],
            message_type=messages,
        )
    )


for _module in (types_pb2, tensor_shape_pb2, versions_pb2, resource_handle_pb2, tensor_pb2):
    _add_tensorboard_file(_module)

_extent = _message("Extent", _field("start", 1, "int64"), _field("length", 2, "int64"))
# A length of 0 and no length at all differ, which is why TensorFlow puts it in a oneof.
_extent.oneof_decl.add(name="has_length")
_extent.field[1].oneof_index = 0
_tensor_slice = _message(
    "TensorSliceProto", _field("extent", 1, ".tensorflow.TensorSliceProto.Extent", repeated=True)
)
_tensor_slice.nested_type.append(_extent)
_add_file(f"{_FRAMEWORK}tensor_slice.proto", [], _tensor_slice)

_header = _message(
    "BundleHeaderProto",
    _field("num_shards", 1, "int32"),
    _field("endianness", 2, "enum .tensorflow.BundleHeaderProto.Endianness"),
    _field("version", 3, ".tensorflow.VersionDef"),
)
_endianness = _header.enum_type.add(name="Endianness")
_endianness.value.add(name="LITTLE", number=0)
_endianness.value.add(name="BIG", number=1)
_add_file(
    "tensorflow/core/protobuf/tensor_bundle.proto",
    ["tensor_shape", "tensor_slice", "types", "versions"],
    _header,
    _message(
        "BundleEntryProto",
        _field("dtype", 1, "enum .tensorflow.DataType"),
        _field("shape", 2, ".tensorflow.TensorShapeProto"),
        _field("shard_id", 3, "int32"),
        _field("offset", 4, "int64"),
        _field("size", 5, "int64"),
        _field("crc32c", 6, "fixed32"),
        _field("slices", 7, ".tensorflow.TensorSliceProto", repeated=True),
    ),
)

_add_file(
    "tensorflow/core/protobuf/saved_model.proto",
    [],
    _message(
        "SavedModel",
        _field("saved_model_schema_version", 1, "int64"),
        # In TensorFlow a MetaGraphDef; as bytes, which is the same on disk, it can be parsed with TensorBoard's class.
        _field("meta_graphs", 2, "bytes", repeated=True),
    ),
)

_add_file(
    "tensorflow/core/util/saved_tensor_slice.proto",
    ["tensor_shape", "tensor_slice", "tensor", "types", "versions"],
    _message(
        "SavedSliceMeta",
        _field("name", 1, "string"),
        _field("shape", 2, ".tensorflow.TensorShapeProto"),
        _field("type", 3, "enum .tensorflow.DataType"),
        _field("slice", 4, ".tensorflow.TensorSliceProto", repeated=True),
    ),
    _message(
        "SavedTensorSliceMeta",
        _field("tensor", 1, ".tensorflow.SavedSliceMeta", repeated=True),
        _field("versions", 2, ".tensorflow.VersionDef"),
    ),
    _message(
        "SavedSlice",
        _field("name", 1, "string"),
        _field("slice", 2, ".tensorflow.TensorSliceProto"),
        _field("data", 3, ".tensorflow.TensorProto"),
    ),
    _message(
        "SavedTensorSlices",
        _field("meta", 1, ".tensorflow.SavedTensorSliceMeta"),
        _field("data", 2, ".tensorflow.SavedSlice"),
    ),
)

_add_file(
    "tensorflow/python/training/checkpoint_state.proto",
    [],
    _message(
        "CheckpointState",
        _field("model_checkpoint_path", 1, "string"),
        _field("all_model_checkpoint_paths", 2, "string", repeated=True),
        _field("all_model_checkpoint_timestamps", 3, "double", repeated=True),
        _field("last_preserved_timestamp", 4, "double"),
    ),
)


def _class(name: str):
    return message_factory.GetMessageClass(_pool.FindMessageTypeByName(f"tensorflow.{name}"))


TensorProto = _class("TensorProto")
TensorShapeProto = _class("TensorShapeProto")
TensorSliceProto = _class("TensorSliceProto")
VersionDef = _class("VersionDef")
BundleHeaderProto = _class("BundleHeaderProto")
BundleEntryProto = _class("BundleEntryProto")
SavedSliceMeta = _class("SavedSliceMeta")
SavedTensorSliceMeta = _class("SavedTensorSliceMeta")
SavedSlice = _class("SavedSlice")
SavedTensorSlices = _class("SavedTensorSlices")
CheckpointState = _class("CheckpointState")
SavedModel = _class("SavedModel")
