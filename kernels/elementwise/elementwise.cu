// elementwise.cu: a + b, a - b, a * b, a / b with broadcasting, and x to a power      (minigan/ops/elementwise.py)
//
// Shapes  y of `size` elements, C-contiguous; a and b may be stretched to its shape: broadcast.cuh. float32
// Block   a thread makes EACH elements of y, BLOCK apart
#include "../launch/elements.cuh"
#include "broadcast.cuh"

// y = operation(a, b)
template <class Operation>
__device__ __forceinline__ void binary(
    const float* __restrict__ a, const float* __restrict__ b, float* __restrict__ y, int size,
    const Table<int>& a_lengths, const Table<int>& a_steps, const Table<int>& b_lengths, const Table<int>& b_steps,
    Operation operation) {
    float of_a[EACH] = {}, of_b[EACH] = {}, mine[EACH];
#pragma unroll
    for (int i = 0; i < EACH; ++i) {
        if (element(i) < size) {
            of_a[i] = a[position(element(i), a_lengths, a_steps)];
            of_b[i] = b[position(element(i), b_lengths, b_steps)];
        }
    }
    for (int i = 0; i < EACH; ++i) mine[i] = operation(of_a[i], of_b[i]);
    store(mine, y, size);
}

// ---- add ------------------------------------------------------------------------------------------------------------
extern "C" __global__ void add(
    const float* __restrict__ a, const float* __restrict__ b, float* __restrict__ y, int size,
    const __grid_constant__ Table<int> a_lengths, const __grid_constant__ Table<int> a_steps,
    const __grid_constant__ Table<int> b_lengths, const __grid_constant__ Table<int> b_steps) {
    binary(a, b, y, size, a_lengths, a_steps, b_lengths, b_steps, [](float a, float b) { return a + b; });
}

// ---- subtract -------------------------------------------------------------------------------------------------------
extern "C" __global__ void subtract(
    const float* __restrict__ a, const float* __restrict__ b, float* __restrict__ y, int size,
    const __grid_constant__ Table<int> a_lengths, const __grid_constant__ Table<int> a_steps,
    const __grid_constant__ Table<int> b_lengths, const __grid_constant__ Table<int> b_steps) {
    binary(a, b, y, size, a_lengths, a_steps, b_lengths, b_steps, [](float a, float b) { return a - b; });
}

// ---- multiply -------------------------------------------------------------------------------------------------------
extern "C" __global__ void multiply(
    const float* __restrict__ a, const float* __restrict__ b, float* __restrict__ y, int size,
    const __grid_constant__ Table<int> a_lengths, const __grid_constant__ Table<int> a_steps,
    const __grid_constant__ Table<int> b_lengths, const __grid_constant__ Table<int> b_steps) {
    binary(a, b, y, size, a_lengths, a_steps, b_lengths, b_steps, [](float a, float b) { return a * b; });
}

// ---- divide ---------------------------------------------------------------------------------------------------------
extern "C" __global__ void divide(
    const float* __restrict__ a, const float* __restrict__ b, float* __restrict__ y, int size,
    const __grid_constant__ Table<int> a_lengths, const __grid_constant__ Table<int> a_steps,
    const __grid_constant__ Table<int> b_lengths, const __grid_constant__ Table<int> b_steps) {
    binary(a, b, y, size, a_lengths, a_steps, b_lengths, b_steps, [](float a, float b) { return a / b; });
}

// ---- power ----------------------------------------------------------------------------------------------------------
extern "C" __global__ void power(
    const float* __restrict__ x,  // (size,)
    float* __restrict__ y,        // (size,)
    int size, float exponent) {
    float mine[EACH];  // of x, then of y
    load(mine, x, size);
    for (float& value : mine) value = powf(value, exponent);
    store(mine, y, size);
}
