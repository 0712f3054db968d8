"""The variables that `tf.get_variable` made in a graph, by full name, and the rules of making and sharing them."""

from __future__ import annotations

import difflib
import inspect
import traceback
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from headrace.api.framework import GraphKeys
from headrace.api.framework import name_scope as open_name_scope
from headrace.api.variable_arguments import SaveSliceInfo, checked_modes
from headrace.api.variable_base import Variable
from headrace.core import dtypes, site
from headrace.core.tensor_shape import TensorShape, as_shape
from headrace.graph import default
from headrace.graph.convert import convert_to_tensor
from headrace.graph.tensor import Tensor


class _ReuseMode:
    """The third answer to "share?": share what exists, make what does not."""

    def __repr__(self) -> str:
        return "_ReuseMode.AUTO_REUSE"


AUTO_REUSE = _ReuseMode()


class _PartitionInfo:
    """What an initializer learns of the part that it fills: the whole's shape and the part's offset."""

    def __init__(self, full_shape: Sequence[int], var_offset: Sequence[int]) -> None:
        if not isinstance(full_shape, (list, tuple)) or isinstance(full_shape, str):
            raise TypeError(
                f"`full_shape` must be a sequence (like tuple or list) instead of {type(full_shape)}"
            )
        if not isinstance(var_offset, (list, tuple)) or isinstance(var_offset, str):
            raise TypeError(
                f"`var_offset` must be a sequence (like tuple or list) instead of {type(var_offset)}"
            )
        if len(var_offset) != len(full_shape):
            raise ValueError(
                f"Expected equal length, but `var_offset` is of length {len(var_offset)} while full_shape is of length "
                f"{len(full_shape)}."
            )
        for offset, size in zip(var_offset, full_shape, strict=True):
            if not 0 <= offset < size:
                raise ValueError(
                    f"Expected 0 <= offset < shape but found offset={offset}, shape={size}"
                )
        self._full_shape, self._var_offset = full_shape, var_offset

    @property
    def full_shape(self) -> Sequence[int]:
        """The shape of the whole variable."""
        return self._full_shape

    @property
    def var_offset(self) -> Sequence[int]:
        """Where the part starts."""
        return self._var_offset

    def single_offset(self, shape: Sequence[int]) -> int:
        """The offset along the one axis that is cut, for a part of `shape`; 0 where none is."""
        axis = self.single_slice_dim(shape)
        return 0 if axis is None else self._var_offset[axis]

    def single_slice_dim(self, shape: Sequence[int]) -> int | None:
        """The one axis that is cut, for a part of `shape`; None where none is. Raises ValueError: it does not fit."""
        if not isinstance(shape, (list, tuple)):
            raise TypeError(
                f"`shape` must be a sequence (like tuple or list) instead of {type(shape)}"
            )
        if len(shape) != len(self._full_shape):
            raise ValueError(
                f"Expected equal length, but received shape={shape} of length {len(shape)} while self.full_shape="
                f"{self._full_shape} is of length {len(self._full_shape)}."
            )
        for axis, size in enumerate(shape):
            if self._var_offset[axis] + size > self._full_shape[axis]:
                raise ValueError(
                    f"With self.var_offset={self._var_offset}, a partition of shape={shape} would exceed "
                    f"self.full_shape={self._full_shape} in dimension {axis}."
                )
        cut = [axis for axis, size in enumerate(shape) if size != self._full_shape[axis]]
        if len(cut) > 1:
            raise ValueError(
                f"Cannot use single_slice_dim() with shape={shape} and self.full_shape={self._full_shape} since slice "
                f"dim could be either dimension {cut[0]} or {cut[1]}."
            )
        return cut[0] if cut else None


def call_partitioner(
    partitioner: Callable[..., Any], shape: TensorShape, dtype: Any
) -> Sequence[int]:
    """How many parts along each axis. Raises ValueError: the partitioner's answer does not fit the shape."""
    if not shape.is_fully_defined():
        raise ValueError(
            f"Shape of a new partitioned variable must be fully defined, but instead was {shape}."
        )
    if shape.ndims < 1:
        raise ValueError(f"A partitioned Variable must have rank at least 1, shape: {shape}")
    parts = partitioner(shape=shape, dtype=dtype)
    if not isinstance(parts, (list, tuple)):
        raise ValueError(f"Partitioner must return a sequence, but saw: {parts}")
    if len(parts) != shape.ndims:
        raise ValueError(
            f"Partitioner returned a partition list that does not match the Variable's rank: {parts} vs. {shape}"
        )
    if any(p < 1 for p in parts):
        raise ValueError(f"Partitioner returned zero partitions for some axes: {parts}")
    if sum(p > 1 for p in parts) > 1:
        raise ValueError(
            f"Can only slice a variable along one dimension: shape: {shape}, partitioning: {parts}"
        )
    return parts


def _cut(parts: Sequence[int]) -> tuple[int, int]:
    """The axis that is cut and the number of parts."""
    for axis, count in enumerate(parts):
        if count > 1:
            return axis, count
    return 0, 1


def _slices(full_shape: list[int], count: int, axis: int) -> Iterator[tuple[list[int], list[int]]]:
    """Offset and shape of each part: as equal as can be, the larger ones first."""
    size, excess = divmod(full_shape[axis], count)
    offset = [0] * len(full_shape)
    for i in range(count):
        shape = list(full_shape)
        shape[axis] = size + (1 if i < excess else 0)
        yield list(offset), shape
        offset[axis] += shape[axis]


def _accepts(function: Callable[..., Any], name: str) -> bool:
    """Whether `function` takes an argument of this name, or any."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return True
    return any(p.name == name or p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters)


class VariableStore:
    """The variables and partitioned variables of one graph."""

    def __init__(self) -> None:
        self._vars: dict[str, Variable] = {}
        self._partitioned_vars: dict[str, Any] = {}

    def get_variable(
        self,
        name: str,
        shape: Any = None,
        dtype: Any = dtypes.float32,
        initializer: Any = None,
        regularizer: Any = None,
        reuse: Any = None,
        trainable: bool | None = None,
        collections: Any = None,
        caching_device: Any = None,
        partitioner: Any = None,
        validate_shape: bool = True,
        use_resource: bool | None = None,
        custom_getter: Any = None,
        constraint: Any = None,
        synchronization: Any = None,
        aggregation: Any = None,
    ) -> Any:
        """The variable `name`, found or made as `reuse` says (True: found, False: made, else either).

        Raises ValueError: it exists or does not exist against `reuse`, or its shape or type differs.
        """
        if custom_getter is not None and not callable(custom_getter):
            raise ValueError(f"Passed a custom_getter which is not callable: {custom_getter}")
        dtype = getattr(dtype, "base_dtype", dtype)
        synchronization, aggregation, trainable = checked_modes(
            synchronization, aggregation, trainable, name
        )
        arguments = {
            "shape": shape,
            "dtype": dtype,
            "initializer": initializer,
            "regularizer": regularizer,
            "reuse": reuse,
            "trainable": trainable,
            "collections": collections,
            "caching_device": caching_device,
            "partitioner": partitioner,
            "validate_shape": validate_shape,
            "use_resource": use_resource,
            "synchronization": synchronization,
            "aggregation": aggregation,
        }
        if custom_getter is None:
            return self._true_getter(name, **arguments, constraint=constraint)
        if _accepts(custom_getter, "constraint"):
            arguments["constraint"] = constraint
        return custom_getter(getter=self._true_getter, name=name, **arguments)

    def _true_getter(
        self,
        name: str,
        shape: Any = None,
        dtype: Any = dtypes.float32,
        initializer: Any = None,
        regularizer: Any = None,
        reuse: Any = None,
        trainable: bool | None = None,
        collections: Any = None,
        caching_device: Any = None,
        partitioner: Any = None,
        validate_shape: bool = True,
        use_resource: bool | None = None,
        constraint: Any = None,
        synchronization: Any = None,
        aggregation: Any = None,
    ) -> Any:
        """What custom getters get as `getter`: the getter without themselves."""
        rest = {
            "regularizer": regularizer,
            "reuse": reuse,
            "trainable": trainable,
            "collections": collections,
            "caching_device": caching_device,
            "validate_shape": validate_shape,
            "use_resource": use_resource,
            "constraint": constraint,
            "synchronization": synchronization,
            "aggregation": aggregation,
        }
        is_scalar = isinstance(shape, (list, tuple)) and not shape
        if partitioner is not None and not is_scalar:
            if not callable(partitioner):
                raise ValueError(f"Partitioner must be callable, but received: {partitioner}")
            with open_name_scope(None):
                return self._get_partitioned_variable(
                    name, partitioner, shape, dtype, initializer, **rest
                )
        if reuse is True and partitioner is None and name in self._partitioned_vars:
            return self._get_partitioned_variable(name, None, shape, dtype, initializer, **rest)
        if f"{name}/part_0" in self._vars:
            raise ValueError(
                "No partitioner was provided, but a partitioned version of the variable was found: "
                f"{name}/part_0. Perhaps a variable of the same name was already created with partitioning?"
            )
        return self._get_single_variable(name, shape, dtype, initializer, **rest)

    # ---- one variable

    def _get_single_variable(
        self,
        name: str,
        shape: Any = None,
        dtype: Any = dtypes.float32,
        initializer: Any = None,
        regularizer: Any = None,
        partition_info: _PartitionInfo | None = None,
        reuse: Any = None,
        trainable: bool | None = None,
        collections: Any = None,
        caching_device: Any = None,
        validate_shape: bool = True,
        use_resource: bool | None = None,
        constraint: Any = None,
        synchronization: Any = None,
        aggregation: Any = None,
    ) -> Variable:
        from_value = initializer is not None and not callable(initializer)
        if shape is not None and from_value:
            raise ValueError("If initializer is a constant, do not specify shape.")
        dtype = dtypes.as_dtype(dtype)
        wanted = as_shape(shape)
        if name in self._vars:
            return self._existing(name, wanted, dtype, reuse)
        if reuse is True:
            raise ValueError(
                f"Variable {name} does not exist, or was not created with tf.get_variable(). Did you mean to set "
                f"reuse=tf.AUTO_REUSE in VarScope?{self._nearest(name)}"
            )
        if initializer is None:
            initializer = _default_initializer(name, dtype)
        with default.init_scope():
            if from_value:
                first, kind = initializer, None
            else:
                first, kind = _bound_initializer(initializer, wanted, dtype, partition_info)
        variable = Variable(
            initial_value=first,
            name=name,
            trainable=trainable,
            collections=collections,
            caching_device=caching_device,
            dtype=kind,
            validate_shape=validate_shape,
            constraint=constraint,
            use_resource=use_resource,
            synchronization=synchronization,
            aggregation=aggregation,
        )
        self._vars[name] = variable
        if regularizer:
            self._regularize(variable, name, regularizer)
        return variable

    def _existing(self, name: str, shape: TensorShape, dtype: Any, reuse: Any) -> Variable:
        found = self._vars[name]
        if reuse is False:
            message = (
                f"Variable {name} already exists, disallowed. Did you mean to set reuse=True or reuse=tf.AUTO_REUSE in "
                "VarScope?"
            )
            # TensorFlow 1.15 gives the place only for reference variables; it helps with both.
            raise ValueError(f"{message} Originally defined at:\n\n{_defined_at(found)}")
        if not shape.is_compatible_with(found.shape):
            raise ValueError(
                f"Trying to share variable {name}, but specified shape {shape} and found shape {found.shape}."
                f"{found.op._site_line()}"
            )
        if not dtype.is_compatible_with(found.dtype):
            raise ValueError(
                f"Trying to share variable {name}, but specified dtype {dtype.name} and found dtype {found.dtype.name}."
                f"{found.op._site_line()}"
            )
        return found

    def _nearest(self, name: str) -> str:
        """What to add to the error for a variable that is not there: similar names, if there are any."""
        close = difflib.get_close_matches(name, self._vars, n=3)
        return f" The nearest names are {', '.join(map(repr, close))}." if close else ""

    @staticmethod
    def _regularize(variable: Variable, name: str, regularizer: Callable[..., Any]) -> None:
        graph = default.get_default_graph()
        with (
            graph.colocate_with(variable.op),
            graph.name_scope(f"{name}/Regularizer/"),
            default.init_scope(),
        ):
            loss = regularizer(variable)
        if loss is not None:
            graph.add_to_collection(GraphKeys.REGULARIZATION_LOSSES, loss)

    # ---- a variable in parts

    def _get_partitioned_variable(
        self,
        name: str,
        partitioner: Any,
        shape: Any = None,
        dtype: Any = dtypes.float32,
        initializer: Any = None,
        regularizer: Any = None,
        reuse: Any = None,
        **rest: Any,
    ) -> Any:
        from headrace.api.partitioned_variables import PartitionedVariable

        if name in self._vars:
            raise ValueError(
                "A partitioner was provided, but an unpartitioned version of the variable was found: "
                f"{name}.  Perhaps a variable of the same name was already created without partitioning?"
            )
        wanted = as_shape(shape)
        if isinstance(initializer, Tensor):
            wanted = wanted.merge_with(initializer.shape)
        dtype = dtypes.as_dtype(dtype)
        parts = call_partitioner(partitioner, wanted, dtype) if not reuse or partitioner else None
        if name in self._partitioned_vars:
            return self._existing_parts(name, wanted, dtype, parts, reuse)
        if reuse is True:
            raise ValueError(
                f"PartitionedVariable {name} does not exist, or was not created with tf.get_variable(). "
                "Did you mean to "
                "set reuse=False or reuse=tf.AUTO_REUSE in VarScope?"
            )
        axis, count = _cut(parts)  # type: ignore[arg-type]
        self._check_shards(name, count)
        full_shape = wanted.as_list()
        variables = []
        for i, (offset, part_shape) in enumerate(_slices(full_shape, count, axis)):
            part_name = f"{name}/part_{i}"
            with open_name_scope(f"{part_name}/PartitionedInitializer"):
                first, first_shape, dtype = _part_initializer(
                    name, initializer, dtype, offset, part_shape
                )
            with open_name_scope(None):
                variable = self._get_single_variable(
                    part_name,
                    first_shape,
                    dtype,
                    first,
                    regularizer,
                    _PartitionInfo(full_shape=full_shape, var_offset=offset),
                    reuse,
                    **rest,
                )
            variable._set_save_slice_info(SaveSliceInfo(name, full_shape, offset, part_shape))
            variables.append(variable)
        whole = PartitionedVariable(name, wanted, dtype, variables, parts)
        self._partitioned_vars[name] = whole
        return whole

    def _existing_parts(
        self, name: str, shape: TensorShape, dtype: Any, parts: Any, reuse: Any
    ) -> Any:
        if reuse is False:
            raise ValueError(
                f"Partitioned variable with name {name} already exists. Did you mean to set reuse=True or "
                "reuse=tf.AUTO_REUSE in VarScope?"
            )
        found = self._partitioned_vars[name]
        if not shape.is_compatible_with(found.get_shape()):
            raise ValueError(
                f"Trying to reuse partitioned variable {name}, but specified shape {shape} and found shape "
                f"{found.get_shape()}."
            )
        if not dtype.is_compatible_with(found.dtype):
            raise ValueError(
                f"Trying to reuse partitioned variable {name}, but specified dtype {dtype.name} and found dtype "
                f"{found.dtype.name}."
            )
        if parts is not None and list(found._get_partitions()) != list(parts):
            raise ValueError(
                f"Trying to reuse partitioned variable {name}, but specified partitions {parts} and found partitions "
                f"{found._get_partitions()}."
            )
        return found

    def _check_shards(self, name: str, count: int) -> None:
        """Parts that exist under this name must be those that would be made."""
        if f"{name}/part_0" not in self._vars:
            return
        start = (
            "Partitioner returned a different partitioning than what was already found.  Partitioner returned "
            f"{count} shards, and shard {name}/part_0 was found, but "
        )
        if f"{name}/part_{count - 1}" not in self._vars:
            raise ValueError(f"{start}{name}/part_{count - 1} was not.")
        if f"{name}/part_{count}" in self._vars:
            raise ValueError(f"{start}so was the extra shard {name}/part_{count}.")


def _part_initializer(
    name: str, initializer: Any, dtype: Any, offset: list[int], shape: list[int]
) -> tuple[Any, Any, Any]:
    """Initializer, shape (None where a value gives it) and type of one part."""
    if initializer is None:
        return _default_initializer(name, dtype), shape, dtype
    if callable(initializer):
        return initializer, shape, dtype
    from headrace.graph import raw

    value = (
        initializer if isinstance(initializer, Tensor) else convert_to_tensor(initializer, dtype)
    )
    part = raw.Slice(value, offset, shape)
    return part, None, part.dtype.base_dtype


def _default_initializer(name: str, dtype: Any) -> Any:
    """Glorot's uniform distribution for floating types, zeros for the others. Raises ValueError: complex types."""
    from headrace.api import init_ops

    if dtype.is_floating:
        return init_ops.GlorotUniform()
    if dtype.is_integer or dtype.is_bool or dtype == dtypes.string:
        return init_ops.Zeros()
    raise ValueError(f"An initializer for variable {name} of {dtype.base_dtype} is required")


def _bound_initializer(
    initializer: Any, shape: TensorShape, dtype: Any, partition_info: _PartitionInfo | None
) -> tuple[Any, Any]:
    """A function without arguments that makes the initial value, and the type to convert it to."""
    if inspect.isclass(initializer):
        initializer = initializer()
    if shape.is_fully_defined():
        sizes = shape.as_list()
        if _accepts(initializer, "partition_info"):
            return lambda: initializer(
                sizes, dtype=dtype, partition_info=partition_info
            ), dtype.base_dtype
        return lambda: initializer(sizes, dtype=dtype), dtype.base_dtype
    parameters = inspect.signature(initializer).parameters.values()
    needed = [
        p
        for p in parameters
        if p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD, p.KEYWORD_ONLY)
    ]
    if not needed:
        return initializer, None
    raise ValueError(
        "The initializer passed is not valid. It should be a callable with no arguments and the shape should not be "
        "provided or an instance of `tf.keras.initializers.*' and `shape` should be fully defined. (Got "
        f"{type(initializer).__name__} and shape {shape}.)"
    )


def _defined_at(variable: Variable) -> str:
    """The last lines of the user's program on the way to the variable, as a traceback prints them."""
    places = [line for line in variable.op.traceback if not line[0].startswith(site.PACKAGE_PREFIX)]
    return "".join(traceback.format_list(places[::-1][:5]))
