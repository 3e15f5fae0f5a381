"""Sixteen floats at a time, or eight: what a thread of the CPU does instead of being thirty-two threads.

Numba compiles arithmetic on single numbers and leaves it to LLVM to find out which of it may be done side by side. In
the loops where all the time goes that is said outright: `Lanes` is a value in a vector register of AVX-512, or with
half as many numbers in one of AVX2 or two of ARM's, and LLVM's vector instructions are written down as they are.

    load(array, i)          the LANES numbers of a flat array from index i on
    store(array, i, lanes)  put back
    prefetch(array, i)      what is there will be read soon
    splat(number)           one number in every lane
    +                       lane by lane
    both_axes               a small matrix times a tile times its transpose, each element of the tile being Lanes
    transpose_tile          LANES by LANES numbers, rows made columns
    multiply_tile           ROWS rows of a matrix product, all in registers

No index is checked: whoever calls answers for it, as in CUDA.
"""

from __future__ import annotations

import operator

from llvmlite import ir
from llvmlite.binding import get_host_cpu_features
from numba.core import cgutils, types
from numba.extending import intrinsic, models, overload, register_model

__all__ = [
    "LANES",
    "PANEL",
    "ROWS",
    "both_axes",
    "load",
    "multiply_tile",
    "prefetch",
    "splat",
    "store",
    "transpose_tile",
]

WIDE = bool(get_host_cpu_features().get("avx512f"))  # 32 registers of 16 floats; else 16 of 8 are counted on
LANES = 16 if WIDE else 8  # floats in a Lanes
PANEL = 2 * LANES  # columns of a product that `multiply_tile` makes
ROWS = 8 if WIDE else 4  # and its rows: half of the registers are sums, so that none waits for the one before

FUSED = ("contract",)  # a product may keep all its bits until it is added: one instruction, one rounding

_INDEX = ir.IntType(64)
_LANES = ir.VectorType(ir.FloatType(), LANES)
_EVERY = ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES)


class Lanes(types.Type):
    """LANES numbers in a register."""

    def __init__(self):
        super().__init__(name=f"Lanes({LANES})")


lanes = Lanes()


@register_model(Lanes)
class LanesModel(models.PrimitiveModel):
    """How LLVM keeps one."""

    def __init__(self, manager, kind):
        super().__init__(manager, kind, _LANES)


def _floats(*arrays) -> bool:
    """Whether they are arrays of float32: what else there is, is no Lanes, and Numba says that it does not fit."""
    return all(isinstance(array, types.Array) and array.dtype == types.float32 for array in arrays)


def _index(value: int) -> ir.Constant:
    return ir.Constant(_INDEX, value)


def _data(context, builder, kind, array):
    """Where an array's numbers begin."""
    return context.make_array(kind)(context, builder, array).data


def _load(builder, data, index):
    value = builder.load(builder.bitcast(builder.gep(data, [index]), _LANES.as_pointer()))
    value.align = 4
    return value


def _store(builder, data, index, value) -> None:
    builder.store(value, builder.bitcast(builder.gep(data, [index]), _LANES.as_pointer())).align = 4


def _splat(builder, number):
    nothing = ir.Constant(_LANES, ir.Undefined)
    first = builder.insert_element(nothing, number, ir.Constant(ir.IntType(32), 0))
    return builder.shuffle_vector(first, nothing, _EVERY)


def _fma(builder, a, b, c):
    return builder.fadd(builder.fmul(a, b, flags=FUSED), c, flags=FUSED)


@intrinsic
def load(typing, array, index):
    """array[index : index + LANES], of a flat float32 array."""
    if not _floats(array):
        return None

    def generate(context, builder, signature, arguments):
        array, index = arguments
        return _load(builder, _data(context, builder, signature.args[0], array), index)

    return lanes(array, types.intp), generate


@intrinsic
def store(typing, array, index, value):
    """array[index : index + LANES] = value."""
    if not _floats(array):
        return None

    def generate(context, builder, signature, arguments):
        array, index, value = arguments
        _store(builder, _data(context, builder, signature.args[0], array), index, value)
        return context.get_dummy_value()

    return types.void(array, types.intp, lanes), generate


@intrinsic
def prefetch(typing, array, index):
    """array[index] will be read soon: fetch its line into the core's cache meanwhile. Any index will do."""

    def generate(context, builder, signature, arguments):
        array, index = arguments
        place = builder.gep(_data(context, builder, signature.args[0], array), [index])
        flag = ir.IntType(32)
        function = cgutils.get_or_insert_function(
            builder.module,
            ir.FunctionType(ir.VoidType(), [ir.IntType(8).as_pointer(), flag, flag, flag]),
            "llvm.prefetch.p0i8",
        )
        read, level, data = (ir.Constant(flag, value) for value in (0, 2, 1))
        builder.call(function, [builder.bitcast(place, ir.IntType(8).as_pointer()), read, level, data])
        return context.get_dummy_value()

    return types.void(array, types.intp), generate


@intrinsic
def splat(typing, number):
    """`number` in every lane."""

    def generate(context, builder, signature, arguments):
        return _splat(builder, arguments[0])

    return lanes(types.float32), generate


@intrinsic
def _add(typing, a, b):
    def generate(context, builder, signature, arguments):
        return builder.fadd(*arguments)

    return lanes(lanes, lanes), generate


@overload(operator.add)
def _plus(a, b):
    if isinstance(a, Lanes) and isinstance(b, Lanes):
        return lambda a, b: _add(a, b)
    return None


@intrinsic
def both_axes(typing, matrix, source, first, stride, target, to, to_stride):
    """Z = M X Mᵀ for a matrix M (n,side), a tuple of rows, and a tile X (side,side) whose elements are Lanes.

    X[i,j] is at source[first + (i side + j) stride], Z[p,q] goes to target[to + (p n + q) to_stride]. The tuple's type
    tells n and side, so no loops are left: the columns of X become those of M X, then row by row those meet M again.
    It tells too which elements of M are None: these are 0, and no instruction is spent on them.
    """
    if not _floats(source, target):
        return None
    n, side = len(matrix), len(matrix[0])

    def generate(context, builder, signature, arguments):
        matrix, source, first, stride, target, to, to_stride = arguments
        source = _data(context, builder, signature.args[1], source)
        target = _data(context, builder, signature.args[4], target)
        rows = []  # of M: (i, M[p,i] in every lane) for its elements that are not 0
        for p, row in enumerate(signature.args[0]):
            numbers = builder.extract_value(matrix, p)
            inside = [i for i in range(side) if row[i] != types.none]
            rows.append([(i, _splat(builder, builder.extract_value(numbers, i))) for i in inside])

        def combine(row, values):
            (i, factor), *rest = row
            total = builder.fmul(factor, values[i])
            for i, factor in rest:
                total = _fma(builder, factor, values[i], total)
            return total

        def element(start, stride, number):
            return builder.add(start, builder.mul(stride, _index(number)))

        half = []  # the columns of M X
        for j in range(side):
            column = [_load(builder, source, element(first, stride, i * side + j)) for i in range(side)]
            half.append([combine(row, column) for row in rows])
        for p in range(n):
            for q in range(n):
                value = combine(rows[q], [column[p] for column in half])
                _store(builder, target, element(to, to_stride, p * n + q), value)
        return context.get_dummy_value()

    return types.void(matrix, source, types.intp, types.intp, target, types.intp, types.intp), generate


@intrinsic
def transpose_tile(typing, source, first, stride, target, to, to_stride):
    """target[to + j to_stride + i] = source[first + i stride + j] for i and j below LANES.

    In halves: the upper half of the lanes of one half of the rows changes places with the lower half of the other's;
    then quarters do, and so on down to single lanes.
    """
    if not _floats(source, target):
        return None

    def generate(context, builder, signature, arguments):
        source, first, stride, target, to, to_stride = arguments
        source = _data(context, builder, signature.args[0], source)
        target = _data(context, builder, signature.args[3], target)
        rows = [_load(builder, source, builder.add(first, builder.mul(stride, _index(i)))) for i in range(LANES)]
        distance = LANES // 2
        while distance:
            # lane numbers below LANES are the first row's, those from LANES on the second's
            lower = [j if not j & distance else LANES + j - distance for j in range(LANES)]
            upper = [j + distance if not j & distance else LANES + j for j in range(LANES)]
            for i in (i for i in range(LANES) if not i & distance):
                pair = rows[i], rows[i + distance]
                rows[i], rows[i + distance] = (
                    builder.shuffle_vector(*pair, ir.Constant(ir.VectorType(ir.IntType(32), LANES), lanes_of))
                    for lanes_of in (lower, upper)
                )
            distance //= 2
        for j, row in enumerate(rows):
            _store(builder, target, builder.add(to, builder.mul(to_stride, _index(j))), row)
        return context.get_dummy_value()

    return types.void(source, types.intp, types.intp, target, types.intp, types.intp), generate


@intrinsic
def multiply_tile(typing, a, at_a, row, step, block, blocks, depth, b, at_b, b_row, c, at_c, c_row, more):
    """C (ROWS, PANEL) = A (ROWS, blocks depth) B (blocks depth, PANEL); with `more`, the sum is added to what C held.

    A[i, k depth + d] is at a[at_a + i row + k block + d step]; the rows of B and C begin at every b_row and c_row
    numbers from at_b and at_c on. The sum runs over k and d in their order, in ROWS * PANEL / LANES registers: each
    number of A meets two Lanes of B.
    """
    if not _floats(a, b, c):
        return None
    vectors = range(PANEL // LANES)

    def generate(context, builder, signature, arguments):
        a, at_a, row, step, block, blocks, depth, b, at_b, b_row, c, at_c, c_row, more = arguments
        a = _data(context, builder, signature.args[0], a)
        b = _data(context, builder, signature.args[7], b)
        c = _data(context, builder, signature.args[10], c)
        starts = [builder.add(at_c, builder.mul(c_row, _index(i))) for i in range(ROWS)]
        places = {(i, v): builder.add(starts[i], _index(v * LANES)) for i in range(ROWS) for v in vectors}
        sums = {place: cgutils.alloca_once(builder, _LANES) for place in places}  # LLVM makes registers of them
        for place in places:
            builder.store(ir.Constant(_LANES, [0.0] * LANES), sums[place])
        with cgutils.for_range(builder, blocks) as outer:
            a_block = builder.add(at_a, builder.mul(outer.index, block))
            b_block = builder.add(at_b, builder.mul(outer.index, builder.mul(depth, b_row)))
            with cgutils.for_range(builder, depth) as inner:
                a_column = builder.add(a_block, builder.mul(inner.index, step))
                b_start = builder.add(b_block, builder.mul(inner.index, b_row))
                numbers = [_load(builder, b, builder.add(b_start, _index(v * LANES))) for v in vectors]
                for i in range(ROWS):
                    index = builder.add(a_column, builder.mul(row, _index(i)))
                    number = _splat(builder, builder.load(builder.gep(a, [index])))
                    for v in vectors:
                        total = _fma(builder, number, numbers[v], builder.load(sums[i, v]))
                        builder.store(total, sums[i, v])
        with builder.if_then(more):
            for place, index in places.items():
                builder.store(builder.fadd(_load(builder, c, index), builder.load(sums[place])), sums[place])
        for place, index in places.items():
            _store(builder, c, index, builder.load(sums[place]))
        return context.get_dummy_value()

    n = types.intp
    return types.void(a, n, n, n, n, n, n, b, n, n, c, n, n, types.boolean), generate
