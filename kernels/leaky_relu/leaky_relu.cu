// leaky_relu.cu: y = x where x > 0, else slope x      (minigan/ops/leaky_relu.py)
//
// Shapes  any; all arrays have `size` elements, float32, C-contiguous
// Block   a thread makes EACH elements of y, BLOCK apart
#include "../launch/elements.cuh"

// ---- leaky_relu -----------------------------------------------------------------------------------------------------
extern "C" __global__ void leaky_relu(
    const float* __restrict__ x,  // (size,)
    float* __restrict__ y,        // (size,)
    int size, float slope) {
    float mine[EACH];  // of x, then of y
    load(mine, x, size);
    for (float& value : mine) value = value > 0.0f ? value : slope * value;
    store(mine, y, size);
}

// ---- leaky_relu_grad ------------------------------------------------------------------------------------------------
// gx = gy where x > 0, else slope gy: at 0, where there is no derivative, it is taken from below.
extern "C" __global__ void leaky_relu_grad(
    const float* __restrict__ gy,  // (size,)
    const float* __restrict__ x,   // (size,)
    float* __restrict__ gx,        // (size,)
    int size, float slope) {
    float mine[EACH], of_x[EACH];  // of gy, then of gx; of x
    load(mine, gy, size);
    load(of_x, x, size);
    for (int i = 0; i < EACH; ++i) mine[i] = of_x[i] > 0.0f ? mine[i] : slope * mine[i];
    store(mine, gx, size);
}
