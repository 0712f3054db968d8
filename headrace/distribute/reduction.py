"""How values on several devices become one, and get back to the devices."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from headrace.api.export import export
from headrace.autodiff import indexed_slices
from headrace.distribute import context
from headrace.distribute.context import ReduceOp
from headrace.distribute.values import Mirrored, PerReplica, is_distributed, local_values
from headrace.graph import convert, default, raw
from headrace.graph.indexed_slices import IndexedSlices
from headrace.graph.tensor import Tensor


def devices_of(destinations: Any) -> tuple[str, ...]:
    """The devices of a distributed value, a variable or tensor, or of the name of one device.

    Raises ValueError: none of these, or a tensor without a device.
    """
    if is_distributed(destinations):
        return destinations.devices
    name = destinations if isinstance(destinations, str) else getattr(destinations, "device", None)
    if not isinstance(name, str):
        raise ValueError(
            "destinations must be one of a `DistributedValues` object, a tf.Variable object, or a device string: "
            f"{destinations!r}"
        )
    if not name:
        raise ValueError(f"destinations can not be empty: {destinations!r} is on no device")
    return (context.canonical_device(name),)


def copied(value: Any, device: str) -> Any:
    """`value` (a tensor, IndexedSlices, or what converts) on a device."""
    with default.get_default_graph().device(device):
        if isinstance(value, IndexedSlices):
            shape = value.dense_shape
            return IndexedSlices(
                raw.Identity(value.values),
                raw.Identity(value.indices),
                None if shape is None else raw.Identity(shape),
            )
        return raw.Identity(convert.convert_to_tensor(value))


def broadcast(value: Any, destinations: Any) -> Any:
    """Copies of `value`: Mirrored, or the copy itself for a single device."""
    devices = devices_of(destinations)
    copies = [copied(value, device) for device in devices]
    return copies[0] if len(copies) == 1 else Mirrored(devices, copies)


def _reduced(
    values: Sequence[Any], reduce_op: ReduceOp, device: str, add: Callable[..., Any] | None
) -> Any:
    """The sum or mean of `values`, computed on one device."""
    with default.get_default_graph().device(device):
        if any(isinstance(v, IndexedSlices) for v in values):
            if not all(isinstance(v, IndexedSlices) for v in values):
                raise ValueError("Some of the replicas gave IndexedSlices and some tensors")
            total = indexed_slices.concatenated(values) if len(values) > 1 else values[0]
            if reduce_op is ReduceOp.MEAN:
                mean = total.values / len(values)
                return IndexedSlices(mean, total.indices, total.dense_shape)
            return total
        tensors = [convert.convert_to_tensor(v) for v in values]
        total = (add or raw.AddN)(tensors)
        return total / len(values) if reduce_op is ReduceOp.MEAN else total


@export("distribute.CrossDeviceOps", "contrib.distribute.CrossDeviceOps")
class CrossDeviceOps:
    """Base class of the ways to reduce values of several devices, and to copy a value to them."""

    def reduce(self, reduce_op: Any, per_replica_value: Any, destinations: Any) -> Any:
        """The sum or mean of the values of the replicas, on `destinations`.

        destinations: a distributed value (its devices are meant), a variable, or the name of a device.
        Raises ValueError: other destinations.
        """
        if not is_distributed(per_replica_value):
            device = getattr(per_replica_value, "device", "")
            per_replica_value = PerReplica((device,), (per_replica_value,))
        values, devices = local_values(per_replica_value), devices_of(destinations)
        if len(values) == 1 and set(per_replica_value.devices) == set(devices):
            return Mirrored(devices, values)
        return self.reduce_implementation(reduce_op, per_replica_value, destinations)

    def batch_reduce(self, reduce_op: Any, value_destination_pairs: Any) -> list[Any]:
        """`reduce` of several (value, destinations) pairs. Raises ValueError: no pairs."""
        pairs = list(value_destination_pairs)
        for pair in pairs:
            if not isinstance(pair, tuple) or len(pair) != 2:
                raise ValueError(
                    f"Each element of `value_destination_pairs` should be a tuple of size 2, got {pair!r}"
                )
        return self.batch_reduce_implementation(reduce_op, pairs)

    def broadcast(self, tensor: Any, destinations: Any) -> Any:
        """Copies of `tensor` on `destinations`."""
        return self.broadcast_implementation(tensor, destinations)

    def reduce_implementation(
        self, reduce_op: Any, per_replica_value: Any, destinations: Any
    ) -> Any:
        """What a subclass does for `reduce`."""
        raise NotImplementedError(f"{type(self).__name__} does not say how it reduces")

    def batch_reduce_implementation(
        self, reduce_op: Any, value_destination_pairs: Any
    ) -> list[Any]:
        """What a subclass does for `batch_reduce`: one after the other, unless it knows better."""
        return [self.reduce(reduce_op, value, where) for value, where in value_destination_pairs]

    def broadcast_implementation(self, tensor: Any, destinations: Any) -> Any:
        """What a subclass does for `broadcast`."""
        return broadcast(tensor, destinations)


@export("distribute.ReductionToOneDevice", "contrib.distribute.ReductionToOneDeviceCrossDeviceOps")
class ReductionToOneDevice(CrossDeviceOps):
    """Sends all values to one device, adds them there and sends the sum back.

    reduce_to_device: the first destination where None. accumulation_fn: adds a list of tensors; `tf.add_n` where None.
    """

    def __init__(self, reduce_to_device: str | None = None, accumulation_fn: Any = None) -> None:
        self.reduce_to_device = reduce_to_device
        self.accumulation_fn = accumulation_fn

    def reduce_implementation(
        self, reduce_op: Any, per_replica_value: Any, destinations: Any
    ) -> Any:
        device = self.reduce_to_device or devices_of(destinations)[0]
        values = local_values(per_replica_value)
        return self.broadcast(
            _reduced(values, reduce_op, device, self.accumulation_fn), destinations
        )


@export("contrib.distribute.AllReduceCrossDeviceOps")
class AllReduce(CrossDeviceOps):
    """Every device gets all values and adds them itself, in the same order: equal sums without a second transfer."""

    def __init__(
        self,
        all_reduce_alg: str = "nccl",
        num_packs: int = 1,
        agg_small_grads_max_bytes: int = 0,
        agg_small_grads_max_group: int = 10,
    ) -> None:
        """all_reduce_alg and what follows choose among TensorFlow's ways to pack and send; here there is one.

        Raises ValueError: a negative number of packs.
        """
        if num_packs < 0:
            raise ValueError(
                f"{type(self).__name__}: num_packs must be greater than or equal to zero, got {num_packs}."
            )

    def reduce_implementation(
        self, reduce_op: Any, per_replica_value: Any, destinations: Any
    ) -> Any:
        devices, values = devices_of(destinations), local_values(per_replica_value)
        sums = [_reduced(values, reduce_op, device, None) for device in devices]
        return sums[0] if len(sums) == 1 else Mirrored(devices, sums)


@export("distribute.NcclAllReduce")
class NcclAllReduce(AllReduce):
    """All-reduce under the name of NVIDIA's library, which programs for several GPUs ask for."""

    def __init__(self, num_packs: int = 1) -> None:
        super().__init__("nccl", num_packs)


@export("distribute.HierarchicalCopyAllReduce")
class HierarchicalCopyAllReduce(AllReduce):
    """All-reduce under the name of TensorFlow's way for machines like the DGX-1."""

    def __init__(self, num_packs: int = 1) -> None:
        super().__init__("hierarchical_copy", num_packs)


def same_for_all(reduce_op: ReduceOp, replicas: int, value: Any, destinations: Any) -> Any:
    """The reduction of what is the same object in all replicas. Raises ValueError: a sum of several."""
    if not isinstance(value, Tensor) and value == 0:
        return 0
    if reduce_op is ReduceOp.MEAN:
        return value
    if replicas != 1:
        raise ValueError(
            f"A non-DistributedValues value {value} cannot be reduced with the given reduce op {reduce_op}."
        )
    return broadcast(value, destinations)
