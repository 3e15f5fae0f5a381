// sum.cu: y[a, c] = sum over b of x[a, b, c], their mean, and the broadcast back      (minigan/ops/sum.py)
//
// Shapes  as each kernel says; float32, C-contiguous
//         compile-time constants: AHEAD (cuda.py)
#include "../elementwise/broadcast.cuh"
#include "../launch/elements.cuh"

// ---- sum ------------------------------------------------------------------------------------------------------------
// y[part, a, c] = the sum over a part of b, `step` long, divided by `divisor`: 1, or for a mean how many b there are.
// Block   (columns, BLOCK / columns): thread (tx, ty) has column tx of a tile of so many, and begins at b = ty.
//         Neighbouring threads read neighbouring floats, across the columns if C is large and along b if C is 1. The
//         shorter the sum and the more columns, the fewer threads share one: cuda.py.
// Launch  grid (A * tiles of C, parts), block (columns, BLOCK / columns)
// Shared  partial (BLOCK,): 1024 bytes; neighbouring threads read neighbouring floats: no bank conflict
// Sums    thread ty adds b = ty, ty + blockDim.y, ... of its part in this order; then a tree over ty: the lower half
//         takes the upper, and so on. Parts are added up by a second launch, for which they are b.
// Napkin  4 bytes for an addition. 2 blocks a multiprocessor, with AHEAD floats a thread under way, have 32 KB under way,
//         where 25 are needed (launch/elements.cuh). A second launch takes as long as three of its waits for memory: cuda.py
//         makes parts only if each waits four times or more.
extern "C" __global__ void __launch_bounds__(BLOCK) sum(
    const float* __restrict__ x,  // (A,B,C)
    float* __restrict__ y,        // (parts,A,C)
    int A, int B, int C, int step, float divisor) {
    __shared__ float partial[BLOCK];
    const int tiles = (C + blockDim.x - 1) / blockDim.x;
    const int a = blockIdx.x / tiles, c = blockIdx.x % tiles * blockDim.x + threadIdx.x;
    const unsigned end = c < C ? min((unsigned)B, (blockIdx.y + 1) * step) : 0;  // beyond C, nothing but barriers
    const int thread = threadIdx.y * blockDim.x + threadIdx.x;
    const float* column = x + (long long)a * B * C + c;  // (B,), C apart

    float total = 0.0f;
    for (unsigned b = blockIdx.y * step + threadIdx.y; b < end; b += AHEAD * blockDim.y) {
        float next[AHEAD];
        const float* at = column + (long long)b * C;
#pragma unroll
        for (int i = 0; i < AHEAD; ++i) {
            next[i] = b + i * blockDim.y < end ? *at : 0.0f;
            at += (long long)blockDim.y * C;
        }
#pragma unroll
        for (int i = 0; i < AHEAD; ++i) total += next[i];
    }

    partial[thread] = total;
    __syncthreads();
    for (int half = blockDim.y / 2; half > 0; half /= 2) {
        if (threadIdx.y < half) partial[thread] += partial[thread + half * blockDim.x];
        __syncthreads();
    }
    if (threadIdx.y == 0 && c < C) y[((long long)blockIdx.y * A + a) * C + c] = partial[thread] / divisor;
}

// ---- broadcast_to ---------------------------------------------------------------------------------------------------
// Block   a thread makes EACH elements of y, BLOCK apart
extern "C" __global__ void broadcast_to(
    const float* __restrict__ x,
    float* __restrict__ y,  // (size,), of any shape
    int size, const __grid_constant__ Table<int> lengths, const __grid_constant__ Table<int> steps) {
    float mine[EACH] = {};
#pragma unroll
    for (int i = 0; i < EACH; ++i)
        if (element(i) < size) mine[i] = x[position(element(i), lengths, steps)];
    store(mine, y, size);
}
