// sigmoid.cu: y = 1 / (1 + exp(-x))      (minigan/ops/sigmoid.py)
//
// Shapes  any; x and y have `size` elements, float32, C-contiguous
// Block   a thread makes EACH elements of y, BLOCK apart
#include "../launch/elements.cuh"

extern "C" __global__ void sigmoid(
    const float* __restrict__ x,  // (size,)
    float* __restrict__ y,        // (size,)
    int size) {
    float mine[EACH];  // of x, then of y
    load(mine, x, size);
    for (float& value : mine) {
        const float small = expf(-fabsf(value));  // at most 1: for no x does it overflow
        value = (value >= 0.0f ? 1.0f : small) / (1.0f + small);
    }
    store(mine, y, size);
}
