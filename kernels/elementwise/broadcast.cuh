// broadcast.cuh: where an element of y lies in an operand that is stretched to y's shape      (kernels/elementwise/cuda.py)
//
// The operand's axes are listed from the last to the first, and neighbours that are stretched alike are one. lengths: in
// y, of all but the first axis; then a 0. steps: the elements that a step along each of them moves in the operand, 0
// where it is stretched.
// Napkin  a division of integers and its remainder are some 30 instructions, and in the time in which the 8 bytes of an
//         element come and go (20 a clock), a multiprocessor has 50 (128 a clock). An operand of y's own shape is one axis,
//         and so is a single number: no division. A bias (C,) for pictures (N,H,W,C) is two axes: one.
#include "../launch/table.cuh"

__device__ __forceinline__ unsigned position(unsigned e, const Table<int>& lengths, const Table<int>& steps) {
    unsigned at = 0;
    int axis = 0;
    for (; lengths.row[axis]; ++axis) {
        at += e % lengths.row[axis] * steps.row[axis];
        e /= lengths.row[axis];
    }
    return at + e * steps.row[axis];
}
