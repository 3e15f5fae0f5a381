// operand.cu: a picture, or filters, as pipeline.cu reads them: channels in whole copies of 16 bytes, of Numbers
//
// Shapes  x (M,C), float32; y (M,D), where M counts every axis but the last and D is C rounded up to whole copies of COPY
//         Numbers: 4 floats, or 8 bf16. What C leaves of the last copy is 0.
//         compile-time constants: BLOCK and EACH (operand.py)
//
// Rounding to bf16 is done here once, while the pipeline reads a number for each tap that meets it and each tile of
// columns; it then fetches half the bytes. The price is this pass: 6 bytes a number. Gained: not measured yet.
// pending: x is rectified on the way, or normalised by what comes after it (normalise.cuh); 0: as it is.
//
// Block   BLOCK threads; a thread makes the same copy of EACH rows, and neighbouring threads neighbouring copies.
// Launch  grid (copies of a row * (M / EACH) / BLOCK, each rounded up), block (BLOCK)

#include "../launch/tensor_cores.cuh"
#include "normalise.cuh"
#include "number.cuh"

// COPY floats of a row, of which `left` are there; 0 for the others. aligned: it begins at a multiple of 16 bytes.
__device__ void load(float (&numbers)[COPY], const float* from, int left, bool aligned) {
    if (aligned && left >= COPY) {
#pragma unroll
        for (int e = 0; e < COPY; e += 4) {
            const float4 four = *reinterpret_cast<const float4*>(from + e);
            numbers[e] = four.x, numbers[e + 1] = four.y, numbers[e + 2] = four.z, numbers[e + 3] = four.w;
        }
    } else {
#pragma unroll
        for (int e = 0; e < COPY; ++e) numbers[e] = e < left ? from[e] : 0.0f;
    }
}

__device__ void store(float* to, const float (&numbers)[4]) {
    *reinterpret_cast<float4*>(to) = make_float4(numbers[0], numbers[1], numbers[2], numbers[3]);
}

__device__ void store(unsigned short* to, const float (&numbers)[8]) {
    *reinterpret_cast<uint4*>(to) = make_uint4(
        bf16_pair(numbers[0], numbers[1]), bf16_pair(numbers[2], numbers[3]), bf16_pair(numbers[4], numbers[5]),
        bf16_pair(numbers[6], numbers[7]));
}

extern "C" __global__ void __launch_bounds__(BLOCK) operand(
    const float* __restrict__ x,         // (M,C)
    Number* __restrict__ y,              // (M,D)
    const float* __restrict__ scale,     // (C,)
    const float* __restrict__ shift,     // (C,)
    const float* __restrict__ mean,      // (C,)
    const float* __restrict__ variance,  // (C,)
    int M, int C, int pending, float eps, float slope) {
    const int copies = (C + COPY - 1) / COPY;  // of a row
    const int step = (M + EACH - 1) / EACH;    // rows between those of a thread
    const int thread = blockIdx.x * BLOCK + threadIdx.x, row0 = thread / copies, c = thread % copies * COPY;
    if (row0 >= step) return;

    Column columns[COPY];
    if (pending) {
#pragma unroll
        for (int e = 0; e < COPY; ++e)
            columns[e] = column_of(pending, min(c + e, C - 1), scale, shift, mean, variance, eps);
    }
    float numbers[EACH][COPY];  // all are loaded before one is waited for
#pragma unroll
    for (int u = 0; u < EACH; ++u) {
        const int row = row0 + u * step;
        load(numbers[u], x + (long long)row * C + c, row < M ? C - c : 0, C % 4 == 0);
    }
#pragma unroll
    for (int u = 0; u < EACH; ++u) {
        const int row = row0 + u * step;
        if (row >= M) continue;
        if (pending) {
#pragma unroll
            for (int e = 0; e < COPY; ++e)
                if (c + e < C) numbers[u][e] = rectified(normalised(numbers[u][e], columns[e]), slope);
        }
        store(y + ((long long)row * copies * COPY + c), numbers[u]);
    }
}
