// pipeline.cu: the three derivatives of T(x, w, y) = sum x[n,i,j,c] w[k,r,s,c] y[n,p,q,k], memory never waited for
//              with i = p stride + r - padding and j = q stride + s - padding; outside its picture x is 0
//
// Shapes  x (N,H,W,C)  w (K,R,S,C)  y (N,P,Q,K); float32, C-contiguous, 16-byte aligned; C and K multiples of 4
//         The tile and BITS are compile-time constants; the window is not, since no division by it is left in a loop: a
//         build for each tile and format serves all layers. Pixels are counted in int, elements in 64 bits.
//
// Two ideas over conv2d.cu, whose table of rows, columns and summed indices d holds here too.
// Copies under way: while one tile is multiplied, the next STAGES - 1 are on their way to shared memory (cp.async), past
// the registers, which so have room for more sums. Gained over conv2d.cu: not measured yet.
// Tensor cores: one instruction of a whole warp does 16 x 8 x 8 multiply-adds or more. Gained over float32: not measured
// yet.
//
// Product    a tile of out, one block's, is the product of two matrices that are only written down in shared memory:
//            product.cuh multiplies them, in either format, and says what a block is and in which order it sums.
// Sums       The grid's last axis splits a long sum into `parts`, for grids that would leave multiprocessors idle; each
//            writes an `out` of its own, and parts.py adds them up.

#include "product.cuh"

// ---- where a sum is -------------------------------------------------------------------------------------------------
// A number of three digits, of which the last two have bounds: (r, s, c) below (R, S, C), or (n, p, q) below (N, P, Q).
struct Digits {
    int first, second, third;
};

__device__ Digits digits(int number, int seconds, int thirds) {
    return {number / (seconds * thirds), number / thirds % seconds, number % thirds};
}

// The number that is greater by `step`, without a division.
__device__ Digits plus(Digits at, int step, int seconds, int thirds) {
    at.third += step;
    while (at.third >= thirds) {
        at.third -= thirds;
        if (++at.second == seconds) at.second = 0, ++at.first;
    }
    return at;
}

// Where pixel (n, i, j) of a tensor (n, height, width, channels) begins.
__device__ long long offset(int n, int i, int j, int height, int width, int channels) {
    return (long long)((n * height + i) * width + j) * channels;
}

// Starts to copy a tile whose lines are pixels of a picture, each moved by (di, dj), and whose depths are channels.
template <int LINES>
__device__ void copy_pixels(
    DepthTile<LINES>& tile,
    const Digits (&pixel)[DepthTile<LINES>::COPIES],  // (n, i, j) registers, of this thread's lines
    const float* __restrict__ picture,                // (N, height, width, channels)
    int di, int dj, int channel, bool inside, int N, int height, int width, int channels) {
    const int line = tile.line(threadIdx.x), depth = tile.depth(threadIdx.x);
#pragma unroll
    for (int u = 0; u < tile.COPIES; ++u) {
        const int i = pixel[u].second + di, j = pixel[u].third + dj;
        const bool there = inside && pixel[u].first < N && (unsigned)i < (unsigned)height && (unsigned)j < (unsigned)width;
        const float* from = picture + offset(pixel[u].first, i, j, height, width, channels) + channel;
        copy_async(&tile.at[line + tile.STEP * u][depth], from, there);
    }
}

// ---- conv2d: y = dT/dy ----------------------------------------------------------------------------------------------
// Launch  grid (tiles of N P Q, tiles of K, parts), block (THREADS)
// Tiles   a, b DepthTile: neighbouring d = (r, s, c) are neighbouring c of a window of x and of a filter of w.
extern "C" __global__ void __launch_bounds__(128, 2) conv2d(
    const float* __restrict__ x,  // (N,H,W,C)
    const float* __restrict__ w,  // (K,R,S,C), that is (K, depth)
    float* __restrict__ y,        // (parts,N,P,Q,K), that is (parts, rows, K)
    int N, int H, int W, int C, int P, int Q, int K, int R, int S, int stride, int padding, int parts) {
    typedef DepthTile<TILE_ROWS> A;
    typedef DepthTile<TILE_COLUMNS> B;
    typedef Stage<A, B> Tiles;
    DYNAMIC_SHARED(Tiles, stages);  // (STAGES,)
    const int rows = N * P * Q, depth = R * S * C;
    const int row0 = blockIdx.x * TILE_ROWS, column0 = blockIdx.y * TILE_COLUMNS;
    const Part part = part_of(blockIdx.z, parts, depth);

    Digits window[A::COPIES];  // of x: (n, i, j) where the windows of this thread's lines begin
#pragma unroll
    for (int u = 0; u < A::COPIES; ++u) {
        const Digits out = digits(row0 + A::line(threadIdx.x) + A::STEP * u, P, Q);
        window[u] = {out.first, out.second * stride - padding, out.third * stride - padding};
    }
    Digits tap = digits(part.first * DEPTH + A::depth(threadIdx.x), S, C);  // (r, s, c) that this thread copies next

    const auto fill = [&](Tiles& stage) {
        copy_pixels(stage.a, window, x, tap.first, tap.second, tap.third, tap.first < R, N, H, W, C);
        const int d = (tap.first * S + tap.second) * C + tap.third;
#pragma unroll
        for (int u = 0; u < B::COPIES; ++u) {
            const int line = B::line(threadIdx.x) + B::STEP * u, k = column0 + line;
            copy_async(&stage.b.at[line][B::depth(threadIdx.x)], w + (long long)k * depth + d, tap.first < R && k < K);
        }
        tap = plus(tap, DEPTH, S, C);
    };
    Sums sums = {};
    multiply(stages, part.last - part.first, fill, sums);

    y += (long long)blockIdx.z * rows * K;
    store_sums(sums, row0, column0, rows, K, [&](int row, int k, float2 pair) {
        store_pair(y + (long long)row * K + k, pair);
    });
}

// ---- conv2d_transpose: x = dT/dx ------------------------------------------------------------------------------------
// The phases are those of conv2d.cu: rows of x with one remainder r0 of i + padding meet the r = r0, r0 + stride, ...
// Launch  grid (tiles of the largest phase's pixels, tiles of C, stride^2 phases * parts), block (THREADS)
// Tiles   a DepthTile: neighbouring d = (tap_r, tap_s, k) are neighbouring k of y; b LineTile: c of w.
extern "C" __global__ void __launch_bounds__(128, 2) conv2d_transpose(
    const float* __restrict__ y,  // (N,P,Q,K)
    const float* __restrict__ w,  // (K,R,S,C)
    float* __restrict__ x,        // (parts,N,H,W,C)
    int N, int H, int W, int C, int P, int Q, int K, int R, int S, int stride, int padding, int parts) {
    typedef DepthTile<TILE_ROWS> A;
    typedef LineTile<TILE_COLUMNS> B;
    typedef Stage<A, B> Tiles;
    DYNAMIC_SHARED(Tiles, stages);  // (STAGES,)
    const int phase = blockIdx.z / parts, number = blockIdx.z % parts;
    const int r0 = phase / stride, s0 = phase % stride;
    const int i0 = ((r0 - padding) % stride + stride) % stride;  // the phase's first row of x
    const int j0 = ((s0 - padding) % stride + stride) % stride;  // its first column of x
    const int height = (H - i0 + stride - 1) / stride;           // its rows i0, i0 + stride, ... < H
    const int width = (W - j0 + stride - 1) / stride;            // its columns j0, j0 + stride, ... < W
    const int taps_r = (R - r0 + stride - 1) / stride;           // r0, r0 + stride, ... < R
    const int taps_s = (S - s0 + stride - 1) / stride;           // s0, s0 + stride, ... < S
    const int rows = N * height * width, depth = taps_r * taps_s * K;
    const int row0 = blockIdx.x * TILE_ROWS, column0 = blockIdx.y * TILE_COLUMNS;
    if (row0 >= rows) return;  // the grid has the largest phase's size; all threads of a block return or none
    const Part part = part_of(number, parts, depth);

    Digits start[A::COPIES];  // of y: (n, p, q) that tap (0, 0) of this thread's lines meets
#pragma unroll
    for (int u = 0; u < A::COPIES; ++u) {
        const Digits out = digits(row0 + A::line(threadIdx.x) + A::STEP * u, height, width);
        const int p = (i0 + out.second * stride + padding) / stride, q = (j0 + out.third * stride + padding) / stride;
        start[u] = {out.first, p, q};
    }
    // (tap_r, tap_s, k) that this thread copies next, of a and of b
    Digits tap_a = digits(part.first * DEPTH + A::depth(threadIdx.x), max(taps_s, 1), K);
    Digits tap_b = digits(part.first * DEPTH + B::depth(threadIdx.x), max(taps_s, 1), K);
    const int c = column0 + B::line(threadIdx.x);

    const auto fill = [&](Tiles& stage) {
        copy_pixels(stage.a, start, y, -tap_a.first, -tap_a.second, tap_a.third, tap_a.first < taps_r, N, P, Q, K);
        tap_a = plus(tap_a, DEPTH, taps_s, K);
#pragma unroll
        for (int u = 0; u < B::COPIES; ++u) {
            const int r = r0 + tap_b.first * stride, s = s0 + tap_b.second * stride;
            float* to = &stage.b.at[B::depth(threadIdx.x) + B::STEP * u][B::line(threadIdx.x)];
            copy_async(to, w + offset(tap_b.third, r, s, R, S, C) + c, tap_b.first < taps_r && c < C);
            tap_b = plus(tap_b, B::STEP, taps_s, K);
        }
    };
    Sums sums = {};
    multiply(stages, part.last - part.first, fill, sums);

    x += number * offset(N, 0, 0, H, W, C);
    store_sums(sums, row0, column0, rows, C, [&](int row, int c, float2 pair) {
        const Digits out = digits(row, height, width);
        store_pair(x + offset(out.first, i0 + out.second * stride, j0 + out.third * stride, H, W, C) + c, pair);
    });
}

// ---- conv2d_weight_grad: w = dT/dw ----------------------------------------------------------------------------------
// Launch  grid (tiles of K, tiles of R S C, parts), block (THREADS). The sum over all pixels (n, p, q) is long and w is
//         small: here parts are many.
// Tiles   a, b LineTile: neighbouring k of a pixel of y, neighbouring c of the pixel of x that tap (r, s) moves it to.
extern "C" __global__ void __launch_bounds__(128, 2) conv2d_weight_grad(
    const float* __restrict__ x,  // (N,H,W,C)
    const float* __restrict__ y,  // (N,P,Q,K), that is (depth, K)
    float* __restrict__ w,        // (parts,K,R,S,C), that is (parts, K, columns)
    int N, int H, int W, int C, int P, int Q, int K, int R, int S, int stride, int padding, int parts) {
    typedef LineTile<TILE_ROWS> A;
    typedef LineTile<TILE_COLUMNS> B;
    typedef Stage<A, B> Tiles;
    DYNAMIC_SHARED(Tiles, stages);  // (STAGES,)
    const int columns = R * S * C, depth = N * P * Q;
    const int row0 = blockIdx.x * TILE_ROWS, column0 = blockIdx.y * TILE_COLUMNS;
    const Part part = part_of(blockIdx.z, parts, depth);

    const int k = row0 + A::line(threadIdx.x), column = column0 + B::line(threadIdx.x);
    const Digits tap = digits(column, S, C);  // (r, s, c) of this thread's columns
    int d = part.first * DEPTH + A::depth(threadIdx.x);  // pixel of y that it copies next, of a
    Digits pixel = digits(part.first * DEPTH + B::depth(threadIdx.x), P, Q);  // and (n, p, q), of b

    const auto fill = [&](Tiles& stage) {
#pragma unroll
        for (int u = 0; u < A::COPIES; ++u) {
            float* to = &stage.a.at[A::depth(threadIdx.x) + A::STEP * u][A::line(threadIdx.x)];
            copy_async(to, y + (long long)d * K + k, d < depth && k < K);
            d += A::STEP;
        }
#pragma unroll
        for (int u = 0; u < B::COPIES; ++u) {
            const int i = pixel.second * stride + tap.first - padding, j = pixel.third * stride + tap.second - padding;
            const bool there = column < columns && pixel.first < N && (unsigned)i < (unsigned)H && (unsigned)j < (unsigned)W;
            float* to = &stage.b.at[B::depth(threadIdx.x) + B::STEP * u][B::line(threadIdx.x)];
            copy_async(to, x + offset(pixel.first, i, j, H, W, C) + tap.third, there);
            pixel = plus(pixel, B::STEP, P, Q);
        }
    };
    Sums sums = {};
    multiply(stages, part.last - part.first, fill, sums);

    w += (long long)blockIdx.z * K * columns;
    store_sums(sums, row0, column0, K, columns, [&](int row, int column, float2 pair) {
        store_pair(w + (long long)row * columns + column, pair);
    });
}
