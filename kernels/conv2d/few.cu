// few.cu: conv2d_transpose, x = dT/dx, for pictures x of few channels: three colours      (minigan/ops/conv2d.py)
//
// Shapes  y (N,P,Q,K)  w (K,R,S,C)  x (N,H,W,C); float32, C-contiguous, 16-byte aligned; K a multiple of 4
//         compile-time constants: PIXELS and CHANNELS (few.py)
//
// The idea over conv2d.cu: there a tile of x is 64 channels wide, and with three of them nearly all of its
// multiplications are of nothing. Here a thread makes a pixel of x, all C <= CHANNELS channels of it, and few enough
// numbers of w are needed for the block to share them. The arithmetic is so little that reading y well is all that matters.
// (The other two derivatives have no such need: there three channels are a part of a depth, or of R S C columns.)
// Gained over conv2d.cu: not measured yet.
//
// Block   PIXELS = 128 threads make as many pixels of one phase (phase.cuh)
// Launch  grid (blocks of the largest phase's pixels, stride^2 phases), block (PIXELS)
// Loads   4 neighbouring threads take 16 neighbouring k of a pixel of y, four at once
// Shared  a (PIXELS, DEPTH + 4), b (DEPTH, CHANNELS), start (PIXELS,): 12032 bytes; and table (3,K), if y is normalised:
//         12,800 in all for K = 64. Threads read four floats of a at once, DEPTH + 4 apart: 8 of them meet all 32 banks.
//         They store four at once too, but 8 of them then are two rows of 16 floats, 20 apart: the first four banks of one
//         are the last four of the other, a 2-way conflict. All threads read the same four floats of b.
// Sums    every pixel is summed by one thread, DEPTH of k at a time under all taps: its neighbours read the same pixels of y,
//         and so soon the L1 cache still has them
//
// pending: y is rectified as it is read, or normalised by what comes after it (normalise.cuh); 0: as it is.

#include "../launch/dynamic_shared.cuh"
#include "normalise.cuh"
#include "phase.cuh"

constexpr int DEPTH = 16;                   // k of a tap at a time
constexpr int STEP = PIXELS / (DEPTH / 4);  // pixels between those whose k one thread brings
constexpr int UNREACHED = -(1 << 20);       // a row from which no tap leads into y

struct Pixel {
    int n, i, j;  // picture, row, column
};

// Where pixel (n, i, j) of a tensor (n, height, width, channels) begins.
__device__ long long offset(int n, int i, int j, int height, int width, int channels) {
    return (long long)((n * height + i) * width + j) * channels;
}

extern "C" __global__ void __launch_bounds__(PIXELS, 8) conv2d_transpose(
    const float* __restrict__ y,         // (N,P,Q,K)
    const float* __restrict__ w,         // (K,R,S,C)
    float* __restrict__ x,               // (N,H,W,C)
    const float* __restrict__ scale,     // (K,)
    const float* __restrict__ shift,     // (K,)
    const float* __restrict__ mean,      // (K,)
    const float* __restrict__ variance,  // (K,)
    int N, int H, int W, int C, int P, int Q, int K, int R, int S, int stride, int padding,
    int pending, float eps, float slope) {
    alignas(16) __shared__ float a[PIXELS][DEPTH + 4], b[DEPTH][CHANNELS];
    __shared__ Pixel start[PIXELS];
    DYNAMIC_SHARED(float, table);  // (3,K) if y is normalised
    const Phase phase = phase_of(blockIdx.y, stride, padding, H, W, R, S);
    const int rows = N * phase.height * phase.width;
    if (blockIdx.x * PIXELS >= rows) return;  // the grid has the largest phase's size; all threads return or none

    const int thread = threadIdx.x, row = blockIdx.x * PIXELS + thread;
    const int n = row / phase.width / phase.height;
    const int i = phase.i0 + row / phase.width % phase.height * stride, j = phase.j0 + row % phase.width * stride;
    start[thread] = {n, row < rows ? (i + padding) / stride : UNREACHED, (j + padding) / stride};  // of y, for tap (0, 0)
    const int line = thread / (DEPTH / 4), deep = thread % (DEPTH / 4) * 4;  // brings k0 + deep .. + 3 of a
    const int deep_b = thread / CHANNELS, c = thread % CHANNELS;             // and, if there is one, k0 + deep_b of b

    if (pending) make_table(pending, table, K, [](int k) { return k; }, scale, shift, mean, variance, eps);

    float sum[CHANNELS] = {};
    for (int k0 = 0; k0 < K; k0 += DEPTH) {
        for (int r = phase.r0, p0 = 0; r < R; r += stride, --p0) {
            for (int s = phase.s0, q0 = 0; s < S; s += stride, --q0) {
                __syncthreads();  // the tiles may be overwritten; before the first, start is there
#pragma unroll
                for (int u = 0; u < PIXELS; u += STEP) {
                    const Pixel at = start[line + u];
                    const int p = at.i + p0, q = at.j + q0, k = k0 + deep;
                    const bool inside = k < K && 0 <= p && p < P && 0 <= q && q < Q;
                    const float* from = y + offset(at.n, p, q, P, Q, K) + k;
                    float4 four = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
                    if (inside) four = *reinterpret_cast<const float4*>(from);
                    if (inside && pending) four = normalise_four(four, four_columns(table, K, k), slope);
                    *reinterpret_cast<float4*>(&a[line + u][deep]) = four;
                }
                if (deep_b < DEPTH) {
                    const int k = k0 + deep_b;
                    b[deep_b][c] = k < K && c < C ? w[offset(k, r, s, R, S, C) + c] : 0.0f;
                }
                __syncthreads();  // the tiles are full
#pragma unroll
                for (int d = 0; d < DEPTH; ++d) {
#pragma unroll
                    for (int v = 0; v < CHANNELS; ++v) sum[v] += a[thread][d] * b[d][v];
                }
            }
        }
    }
#pragma unroll
    for (int v = 0; v < CHANNELS; ++v) {
        if (row < rows && v < C) x[offset(n, i, j, H, W, C) + v] = sum[v];
    }
}
