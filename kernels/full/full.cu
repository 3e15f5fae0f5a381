// full.cu: y = value      (kernels/full/__init__.py says what for)
//
// Shapes  any; y has `size` elements, float32, C-contiguous
// Block   a thread makes EACH elements of y, BLOCK apart
#include "../launch/elements.cuh"

extern "C" __global__ void full(
    float* __restrict__ y,  // (size,)
    int size, float value) {
    float mine[EACH];
    for (float& one : mine) one = value;
    store(mine, y, size);
}
