"""What the rows for the ops that train are made of, here and where TensorFlow computed what they expect."""

# This file also runs under Python 3.7.

import numpy as np

DENSE = (
    *(
        "GradientDescent",
        "Momentum",
        "Adagrad",
        "AdagradV2",
        "AdagradDA",
        "Adadelta",
        "Adam",
        "AdaMax",
    ),
    *("RMSProp", "CenteredRMSProp", "Ftrl", "FtrlV2", "AddSign", "PowerSign", "ProximalAdagrad"),
    "ProximalGradientDescent",
)
ONLY_RESOURCES = ("KerasMomentum", "AdamWithAmsgrad")
SPARSE = (
    *(
        "Momentum",
        "Adagrad",
        "AdagradV2",
        "AdagradDA",
        "Adadelta",
        "RMSProp",
        "CenteredRMSProp",
        "Ftrl",
        "FtrlV2",
    ),
    *("ProximalAdagrad", "ProximalGradientDescent"),
)
NAMES = [
    *(flavour + "Apply" + name for flavour in ("", "Resource") for name in DENSE),
    *(flavour + "SparseApply" + name for flavour in ("", "Resource") for name in SPARSE),
    *("ResourceApply" + name for name in ONLY_RESOURCES),
    "ResourceSparseApplyKerasMomentum",
]
# name -> attrs of further rows
VARIANTS = {
    name: {"use_nesterov": True}
    for name in NAMES
    if name.endswith("Momentum") or name.endswith("ApplyAdam")
}
VARIANTS.update(
    {
        name: {"update_slots": False}
        for name in NAMES
        if "Adagrad" in name and name[-2:] in ("ad", "V2")
    }
)
VARIANTS = {k: v for k, v in VARIANTS.items() if "Proximal" not in k}

_SCALARS = {
    **{
        "lr": 0.1,
        "alpha": 0.2,
        "rho": 0.9,
        "momentum": 0.8,
        "epsilon": 0.01,
        "l1": 0.05,
        "l2": 0.1,
    },
    **{"l2_shrinkage": 0.03, "lr_power": -0.4, "beta1": 0.8, "beta2": 0.9, "beta1_power": 0.64},
    **{"beta2_power": 0.81, "logbase": 1.5, "sign_decay": 0.7, "beta": 0.9},
}
_VAR = np.array([[1.0, -2.0], [0.5, 0.0], [-0.75, 3.0]], np.float32)
_GRAD = np.array([[0.5, -1.0], [2.0, 0.25], [-0.125, 1.5]], np.float32)


def inputs(name, arguments):
    """The arrays for the arguments of an op, by their names; the first argument is the variable, `var`."""
    made = []
    for position, argument in enumerate(arguments):
        if argument == "var":
            made.append(_VAR)
        elif argument in ("grad", "delta"):
            made.append(_GRAD)
        elif argument == "indices":
            made.append(np.array([2, 0, 2], np.int32))
        elif argument == "global_step":
            made.append(np.array(3, np.int64))
        elif argument in _SCALARS:
            made.append(np.array(_SCALARS[argument], np.float32))
        else:  # a slot: above zero, and above the square of what an average of gradients can be
            made.append(np.abs(_VAR) / 8 * position + np.float32(0.25))
    return made
