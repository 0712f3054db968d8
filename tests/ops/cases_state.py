"""Rows for the ops that read and write variables, in both flavours: what they return, or leave in the variable."""

import numpy as np

from tests.ops.case import Case

F = np.float32
TABLE = np.arange(12, dtype=F).reshape(4, 3)
INTS = np.array([7, -8, 9, 100], np.int64)
ROWS = np.array([[1, 2, 3], [4, 5, 6], [0.5, 0.25, 2]], F)
PICK = np.array([2, 0, 2], np.int32)
POSITIONS = np.array([[0, 1], [3, 2], [0, 1]], np.int64)
VALUES = np.array([10, 20, 30], F)


def scattered(function):
    """What a scatter leaves: `function(table, where, updates)` works in place."""

    def expected(table, indices, updates):
        table = table.copy()
        function(table, indices, updates)
        return table

    return expected


def positioned(function):
    def expected(table, indices, updates):
        table = table.copy()
        function(table, tuple(np.moveaxis(indices, -1, 0)), updates)
        return table

    return expected


def one_by_one(function):
    def apply(table, indices, updates):
        for i, update in zip(indices.reshape(-1), np.broadcast_to(updates, (indices.size, 3))):
            table[i] = function(table[i], update)

    return apply


KINDS = {
    "Update": lambda t, i, u: t.__setitem__(i, u),
    "Add": np.add.at,
    "Sub": np.subtract.at,
    "Mul": np.multiply.at,
    "Div": one_by_one(np.divide),
    "Min": np.minimum.at,
    "Max": np.maximum.at,
}

CASES = [
    Case("Assign", [TABLE, -TABLE], expected=-TABLE),
    Case("Assign", [np.array(3.0, F), np.array(4.0, F)], expected=F(4)),
    Case(
        "Assign",
        [np.array([b"a"], object), np.array([b"bc"], object)],
        expected=[["bc"]],
        id="Assign-strings",
    ),
    Case(
        "Assign",
        [TABLE, np.array([1.0], F)],
        {"validate_shape": False},
        expected=np.array([1.0], F),
        id="Assign-another-shape",
    ),
    Case("AssignAdd", [TABLE, TABLE], expected=2 * TABLE),
    Case("AssignAdd", [INTS, INTS], expected=2 * INTS),
    Case("AssignSub", [TABLE, np.ones_like(TABLE)], expected=TABLE - 1),
    Case("IsVariableInitialized", [TABLE], expected=np.True_),
    Case("CountUpTo", [np.array(3, np.int32)], {"limit": 5}, expected=np.int32(3)),
    Case("CountUpTo", [np.array(3, np.int64)], {"limit": 4}, expected=np.int64(3)),
    Case("RefIdentity", [TABLE], expected=TABLE),
    Case("DestroyTemporaryVariable", [TABLE], {"var_name": "t"}, expected=TABLE),
    Case("ReadVariableOp", [TABLE], {"dtype": F}, expected=TABLE),
    Case("AssignVariableOp", [TABLE, -TABLE], expected=-TABLE),
    Case("AssignAddVariableOp", [TABLE, TABLE], expected=2 * TABLE),
    Case("AssignSubVariableOp", [TABLE, TABLE], expected=0 * TABLE),
    Case("VarIsInitializedOp", [TABLE], expected=np.True_),
    Case("VariableShape", [TABLE], expected=np.array([4, 3], np.int32)),
    Case("VariableShape", [TABLE], {"out_type": np.int64}, expected=np.array([4, 3], np.int64)),
    Case(
        "ResourceCountUpTo",
        [np.array(3, np.int32)],
        {"limit": 5, "T": np.int32},
        expected=np.int32(3),
    ),
    Case("ResourceGather", [TABLE, PICK], {"dtype": F}, expected=TABLE[PICK]),
    Case(
        "ResourceGather", [TABLE, PICK.reshape(3, 1)], {"dtype": F}, expected=TABLE[PICK][:, None]
    ),
    Case(
        "ResourceGather",
        [TABLE, np.array([[2, 0], [1, 1], [0, 0], [2, 2]], np.int32)],
        {"dtype": F, "batch_dims": 1},
        expected=lambda t, i: np.take_along_axis(t, i, 1),
        id="ResourceGather-batch",
    ),
    Case(
        "ResourceGatherNd", [TABLE, POSITIONS], {"dtype": F}, expected=TABLE[[0, 3, 0], [1, 2, 1]]
    ),
    Case("ResourceGatherNd", [TABLE, np.array([[3]], np.int32)], {"dtype": F}, expected=TABLE[3:]),
]

for _kind, _function in KINDS.items():
    for _op, _attrs in ((f"Scatter{_kind}", {}), (f"ResourceScatter{_kind}", {})):
        _expected = scattered(_function)
        CASES += [
            Case(_op, [TABLE, PICK, ROWS], expected=_expected),
            Case(
                _op,
                [TABLE, np.array([1, 3], np.int64), np.array(2, F)],
                expected=_expected,
                id=f"{_op}-scalar",
            ),
            Case(_op, [TABLE, np.array(1, np.int32), ROWS[0]], expected=_expected, id=f"{_op}-one"),
            Case(_op, [TABLE, PICK[:0], ROWS[:0]], expected=TABLE, id=f"{_op}-none"),
        ]
CASES += [
    Case(
        f"{flavour}Div",
        [INTS, np.array([0, 1, 1], np.int32), np.array([2, 3, -2], np.int64)],
        expected=np.array([3, 1, 9, 100], np.int64),
        id=f"{flavour}Div-integers",
    )
    for flavour in ("Scatter", "ResourceScatter")
]
for _kind in ("Update", "Add", "Sub"):
    for _op in (f"ScatterNd{_kind}", f"ResourceScatterNd{_kind}"):
        CASES += [
            Case(_op, [TABLE, POSITIONS, VALUES], expected=positioned(KINDS[_kind])),
            Case(
                _op,
                [TABLE, PICK[:, None], ROWS],
                expected=positioned(KINDS[_kind]),
                id=f"{_op}-rows",
            ),
        ]
