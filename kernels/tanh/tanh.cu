// tanh.cu: y = tanh(x)      (minigan/ops/tanh.py)
//
// Shapes  any; all arrays have `size` elements, float32, C-contiguous
// Block   a thread makes EACH elements of y, BLOCK apart
#include "../launch/elements.cuh"

// ---- tanh_elements --------------------------------------------------------------------------------------------------
// Not named plain `tanh`: C has a function of that name, and extern "C" knows no other by it.
extern "C" __global__ void tanh_elements(
    const float* __restrict__ x,  // (size,)
    float* __restrict__ y,        // (size,)
    int size) {
    float mine[EACH];  // of x, then of y
    load(mine, x, size);
    for (float& value : mine) value = tanhf(value);
    store(mine, y, size);
}

// ---- tanh_grad ------------------------------------------------------------------------------------------------------
// gx = gy (1 - tanh(x)^2)
extern "C" __global__ void tanh_grad(
    const float* __restrict__ gy,  // (size,)
    const float* __restrict__ x,   // (size,)
    float* __restrict__ gx,        // (size,)
    int size) {
    float mine[EACH], of_x[EACH];  // of gy, then of gx; of x
    load(mine, gy, size);
    load(of_x, x, size);
    for (int i = 0; i < EACH; ++i) {
        const float y = tanhf(of_x[i]);
        mine[i] *= 1.0f - y * y;
    }
    store(mine, gx, size);
}
