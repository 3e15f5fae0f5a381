// tiled.cu: the three derivatives of T(x, w, y) = sum x[n,i,j,c] w[k,r,s,c] y[n,p,q,k] in tiles of shared memory
//           with i = p stride + r - padding and j = q stride + s - padding; outside its picture x is 0
//
// Shapes  x (N,H,W,C)  w (K,R,S,C)  y (N,P,Q,K); float32, C-contiguous
//         compile-time constants: TILE (tiled.py). Pixels (N H W, N P Q) are counted in int, elements in 64 bits.
//
// The idea over naive.cu: each derivative is a matrix product, out[row][column] = sum over d of a[row][d] b[d][column]
// (the table in conv2d.cu says of what), and TILE threads of a block want the same number. So a block brings it from
// memory once, into shared memory, and it serves TILE products. Gained over naive.cu: not measured yet.
//
// Block   TILE x TILE = 256 threads make one TILE x TILE tile of out, TILE summed indices at a time. Thread (tx, ty)
//         makes row ty and column tx.
// Shared  a, b (TILE, PITCH): 2176 bytes. In add_tiles a warp reads two numbers of a and 16 neighbours of b: no conflict.
//         Where a tile is filled with lanes PITCH apart, two of a warp share a bank.
// Sums    every output is summed by one thread, by ascending d

#include "phase.cuh"

constexpr int PITCH = TILE + 1;  // floats from line to line in shared memory

struct Pixel {
    int n, i, j;  // picture, row, column
};

// The pixel at position `index` of a stack of pictures of height x width pixels.
__device__ Pixel pixel_at(int index, int height, int width) {
    return {index / (height * width), index / width % height, index % width};
}

// Where pixel (n, i, j) of a tensor (n, height, width, channels) begins.
__device__ long long offset(int n, int i, int j, int height, int width, int channels) {
    return (long long)((n * height + i) * width + j) * channels;
}

// sum += a[row][d] b[d][column] of the thread's row and column, over all d of the tiles.
__device__ void add_tiles(const float (*a)[PITCH], const float (*b)[PITCH], float& sum) {
#pragma unroll
    for (int d = 0; d < TILE; ++d) sum += a[threadIdx.y][d] * b[d][threadIdx.x];
}

// ---- conv2d: y = dT/dy ----------------------------------------------------------------------------------------------
// Launch  grid (tiles of N P Q, tiles of K), block (TILE, TILE)
extern "C" __global__ void __launch_bounds__(TILE * TILE) conv2d(
    const float* __restrict__ x,  // (N,H,W,C)
    const float* __restrict__ w,  // (K,R,S,C), that is (K, depth)
    float* __restrict__ y,        // (N,P,Q,K), that is (rows, K)
    int N, int H, int W, int C, int P, int Q, int K, int R, int S, int stride, int padding) {
    __shared__ float a[TILE][PITCH], b[TILE][PITCH];
    const int rows = N * P * Q, depth = R * S * C;
    const int row = blockIdx.x * TILE + threadIdx.y, column = blockIdx.y * TILE + threadIdx.x;
    const Pixel out = pixel_at(row, P, Q);
    const int filter = blockIdx.y * TILE + threadIdx.y;  // whose numbers this thread brings: neighbours along d

    float sum = 0.0f;
    for (int d0 = 0; d0 < depth; d0 += TILE) {
        const int d = d0 + threadIdx.x, r = d / C / S, s = d / C % S, c = d % C;
        const int i = out.i * stride + r - padding, j = out.j * stride + s - padding;
        const bool inside = d < depth && row < rows && 0 <= i && i < H && 0 <= j && j < W;
        a[threadIdx.y][threadIdx.x] = inside ? x[offset(out.n, i, j, H, W, C) + c] : 0.0f;
        b[threadIdx.x][threadIdx.y] = d < depth && filter < K ? w[(long long)filter * depth + d] : 0.0f;
        __syncthreads();  // the tiles are full
        add_tiles(a, b, sum);
        __syncthreads();  // and may be overwritten
    }
    if (row < rows && column < K) y[(long long)row * K + column] = sum;
}

// ---- conv2d_transpose: x = dT/dx ------------------------------------------------------------------------------------
// A block's pixels are of one phase (phase.cuh), so that the same taps count for all.
// Launch  grid (tiles of the largest phase's pixels, tiles of C, stride^2 phases), block (TILE, TILE)
extern "C" __global__ void __launch_bounds__(TILE * TILE) conv2d_transpose(
    const float* __restrict__ y,  // (N,P,Q,K)
    const float* __restrict__ w,  // (K,R,S,C)
    float* __restrict__ x,        // (N,H,W,C)
    int N, int H, int W, int C, int P, int Q, int K, int R, int S, int stride, int padding) {
    __shared__ float a[TILE][PITCH], b[TILE][PITCH];
    const Phase phase = phase_of(blockIdx.z, stride, padding, H, W, R, S);
    const int taps_s = phase.taps_s, rows = N * phase.height * phase.width, depth = phase.taps_r * taps_s * K;
    const int row = blockIdx.x * TILE + threadIdx.y, c = blockIdx.y * TILE + threadIdx.x;
    if (blockIdx.x * TILE >= rows) return;  // the grid has the largest phase's size; all threads return or none

    const Pixel out = pixel_at(row, phase.height, phase.width);
    const int i = phase.i0 + out.i * stride, j = phase.j0 + out.j * stride;
    float sum = 0.0f;
    for (int d0 = 0; d0 < depth; d0 += TILE) {
        const int d = d0 + threadIdx.x, k = d % K;  // of a
        const int p = (i + padding) / stride - d / K / taps_s, q = (j + padding) / stride - d / K % taps_s;
        const bool inside = d < depth && row < rows && 0 <= p && p < P && 0 <= q && q < Q;
        a[threadIdx.y][threadIdx.x] = inside ? y[offset(out.n, p, q, P, Q, K) + k] : 0.0f;

        const int e = d0 + threadIdx.y;  // d of b, whose neighbouring threads have neighbouring c
        const int r = phase.r0 + e / K / taps_s * stride, s = phase.s0 + e / K % taps_s * stride;
        b[threadIdx.y][threadIdx.x] = e < depth && c < C ? w[offset(e % K, r, s, R, S, C) + c] : 0.0f;
        __syncthreads();  // the tiles are full
        add_tiles(a, b, sum);
        __syncthreads();  // and may be overwritten
    }
    if (row < rows && c < C) x[offset(out.n, i, j, H, W, C) + c] = sum;
}

// ---- conv2d_weight_grad: w = dT/dw ----------------------------------------------------------------------------------
// Launch  grid (tiles of R S C, tiles of K), block (TILE, TILE)
extern "C" __global__ void __launch_bounds__(TILE * TILE) conv2d_weight_grad(
    const float* __restrict__ x,  // (N,H,W,C)
    const float* __restrict__ y,  // (N,P,Q,K), that is (depth, K)
    float* __restrict__ w,        // (K,R,S,C), that is (K, columns)
    int N, int H, int W, int C, int P, int Q, int K, int R, int S, int stride, int padding) {
    __shared__ float a[TILE][PITCH], b[TILE][PITCH];
    const int columns = R * S * C, depth = N * P * Q;
    const int row = blockIdx.y * TILE + threadIdx.y, column = blockIdx.x * TILE + threadIdx.x;
    const int r = column / C / S, s = column / C % S, c = column % C;
    const int k = blockIdx.y * TILE + threadIdx.x;  // whose numbers this thread brings, of pixel d of y

    float sum = 0.0f;
    for (int d0 = 0; d0 < depth; d0 += TILE) {
        const int d = d0 + threadIdx.y;
        const Pixel at = pixel_at(d, P, Q);
        const int i = at.i * stride + r - padding, j = at.j * stride + s - padding;
        const bool inside = d < depth && column < columns && 0 <= i && i < H && 0 <= j && j < W;
        a[threadIdx.x][threadIdx.y] = d < depth && k < K ? y[(long long)d * K + k] : 0.0f;
        b[threadIdx.y][threadIdx.x] = inside ? x[offset(at.n, i, j, H, W, C) + c] : 0.0f;
        __syncthreads();  // the tiles are full
        add_tiles(a, b, sum);
        __syncthreads();  // and may be overwritten
    }
    if (row < K && column < columns) w[(long long)row * columns + column] = sum;
}
