// conv2d.cu: the three derivatives of T(x, w, y) = sum x[n,i,j,c] w[k,r,s,c] y[n,p,q,k]      (minigan/ops/conv2d.py)
//            with i = p STRIDE + r - padding and j = q STRIDE + s - padding; outside its picture x is 0
//
// Shapes  x (N,H,W,C)  w (K,R,S,C)  y (N,P,Q,K); float32, C-contiguous
//         compile-time constants: R, S, STRIDE; SIDE and MICRO (cuda.py)
//         Pixels (N H W, N P Q) are counted in int, elements in 64 bits.
//
// Each derivative is a matrix product, out[row][column] = sum over d of a[row][d] b[d][column], whose matrices are
// never built: a tile of each is gathered from x, w or y at the moment it is needed ("implicit GEMM").
//
//                        row              column       d, the summed index         a   b   out
//     conv2d             (n, p, q)        k            (r, s, c)                   x   w   y
//     conv2d_transpose   (n, i, j)        c            (r, s, k)                   y   w   x
//     conv2d_weight_grad k                (r, s, c)    (n, p, q)                   y   x   w
//
// The idea over tiled.cu: there every multiply-add fetches two numbers from shared memory. Here a thread makes 4 x 4
// elements, and 8 numbers in registers serve 16 multiply-adds. Gained over tiled.cu: not measured yet.
//
// Block   SIDE x SIDE = 256 threads make one TILE x TILE tile of out, DEPTH summed indices at a time. Thread (tx, ty)
//         owns the rows MICRO ty + u and the columns tx + SIDE v, u, v < MICRO: its 16 sums stay in registers, each
//         value read from shared memory serves four of them, and 16 threads store 16 neighbouring floats.
// Shared  a, b (DEPTH, PITCH): 2 * 16 * 68 * 4 = 8704 bytes. In multiply_tiles a warp reads two addresses of a
//         (broadcast, four floats at once: PITCH is a multiple of 4) and 16 neighbouring floats of b: no conflict.
//         Writing a tile across its lines has none; along its depth, lanes are PITCH apart, 68 = 4 mod 32, and two of
//         them share a bank.
// Sums    every output is summed by one thread, by ascending d. Where the outputs are few, conv2d and conv2d_weight_grad
//         split their sums into `parts`, the grid's last axis; each writes an `out` of its own, and parts.cu adds them up
//         in their order. So the bits depend on nothing but the shapes and parts.

#include "phase.cuh"

constexpr int TILE = SIDE * MICRO;          // 64: lines (rows of a, columns of b) in a tile
constexpr int DEPTH = 16;                   // summed indices in a tile
constexpr int PITCH = TILE + 4;             // floats from one d to the next in shared memory
constexpr int BLOCK = SIDE * SIDE;          // 256
constexpr int FILL = TILE * DEPTH / BLOCK;  // 4: elements of a tile that each thread brings
constexpr int LINES_APART = BLOCK / DEPTH;  // 16: lines between them when neighbouring threads go along d
constexpr int DEPTHS_APART = BLOCK / TILE;  // 4: d between them when neighbouring threads go along the lines

struct Pixel {
    int n, i, j;  // picture, row, column
};

// The pixel at position `index` of a stack of pictures of height x width pixels.
__device__ Pixel pixel_at(int index, int height, int width) {
    return {index / (height * width), index / width % height, index % width};
}

// Where pixel (n, i, j) of a tensor (n, height, width, channels) begins. In 64 bits: it may have over 2^31 elements.
__device__ long long offset(int n, int i, int j, int height, int width, int channels) {
    return (long long)((n * height + i) * width + j) * channels;
}

// sum[u][v] += a[d][row u] * b[d][column v] for the thread's rows and columns and all d of the tiles.
__device__ void multiply_tiles(
    const float (*a)[PITCH],       // (DEPTH, PITCH) shared
    const float (*b)[PITCH],       // (DEPTH, PITCH) shared
    float (&sum)[MICRO][MICRO]) {  // (rows, columns) registers
#pragma unroll
    for (int d = 0; d < DEPTH; ++d) {
        float row[MICRO], column[MICRO];
#pragma unroll
        for (int u = 0; u < MICRO; ++u) {
            row[u] = a[d][MICRO * threadIdx.y + u];
            column[u] = b[d][threadIdx.x + SIDE * u];
        }
#pragma unroll
        for (int u = 0; u < MICRO; ++u) {
#pragma unroll
            for (int v = 0; v < MICRO; ++v) sum[u][v] += row[u] * column[v];
        }
    }
}

// out[row][column] = the thread's sums, as far as the tile that begins at (row0, column0) lies inside.
__device__ void store_tile(
    const float (&sum)[MICRO][MICRO],  // (rows, columns) registers
    float* __restrict__ out,           // (rows, columns)
    int row0, int column0, int rows, int columns) {
#pragma unroll
    for (int u = 0; u < MICRO; ++u) {
        const int row = row0 + MICRO * threadIdx.y + u;
#pragma unroll
        for (int v = 0; v < MICRO; ++v) {
            const int column = column0 + threadIdx.x + SIDE * v;
            if (row < rows && column < columns) out[(long long)row * columns + column] = sum[u][v];
        }
    }
}

// The d at which part number `part` of a sum begins, and the one before it ends: a multiple of DEPTH.
__device__ int part_begin(int part, int parts, int depth) {
    return int((long long)((depth + DEPTH - 1) / DEPTH) * part / parts) * DEPTH;
}

// ---- conv2d: y = dT/dy ----------------------------------------------------------------------------------------------
// Launch  grid (tiles of N P Q, tiles of K, parts), block (SIDE, SIDE)
// Loads   16 neighbouring threads take 16 neighbouring d = (r, s, c) of one window of x and of one filter of w.
extern "C" __global__ void __launch_bounds__(BLOCK) conv2d(
    const float* __restrict__ x,  // (N,H,W,C)
    const float* __restrict__ w,  // (K,R,S,C), that is (K, depth)
    float* __restrict__ y,        // (parts,N,P,Q,K), that is (parts, rows, K)
    int N, int H, int W, int C, int P, int Q, int K, int padding, int parts) {
    alignas(16) __shared__ float a[DEPTH][PITCH], b[DEPTH][PITCH];
    const int rows = N * P * Q, depth = R * S * C;
    const int thread = threadIdx.y * SIDE + threadIdx.x;
    const int deep = thread % DEPTH, line = thread / DEPTH;  // fills d0 + deep of the lines line + LINES_APART u
    const int row0 = blockIdx.x * TILE, column0 = blockIdx.y * TILE;

    Pixel corner[FILL];  // of x: where the windows of this thread's lines begin
#pragma unroll
    for (int u = 0; u < FILL; ++u) {
        const Pixel out = pixel_at(row0 + line + LINES_APART * u, P, Q);
        corner[u] = {out.n, out.i * STRIDE - padding, out.j * STRIDE - padding};
    }

    float sum[MICRO][MICRO] = {};
    const int end = part_begin(blockIdx.z + 1, parts, depth);
    for (int d0 = part_begin(blockIdx.z, parts, depth); d0 < end; d0 += DEPTH) {
        const int d = d0 + deep, r = d / C / S, s = d / C % S, c = d % C;
#pragma unroll
        for (int u = 0; u < FILL; ++u) {
            const int i = corner[u].i + r, j = corner[u].j + s, k = column0 + line + LINES_APART * u;
            const bool inside = d < depth && corner[u].n < N && 0 <= i && i < H && 0 <= j && j < W;
            a[deep][line + LINES_APART * u] = inside ? x[offset(corner[u].n, i, j, H, W, C) + c] : 0.0f;
            b[deep][line + LINES_APART * u] = d < depth && k < K ? w[(long long)k * depth + d] : 0.0f;
        }
        __syncthreads();  // the tiles are full
        multiply_tiles(a, b, sum);
        __syncthreads();  // and may be overwritten
    }

    store_tile(sum, y + (long long)blockIdx.z * rows * K, row0, column0, rows, K);
}

// ---- conv2d_transpose: x = dT/dx ------------------------------------------------------------------------------------
// A block's pixels are of one phase (phase.cuh), so that the same taps count for all.
// Launch  grid (tiles of the largest phase's pixels, tiles of C, STRIDE^2 phases), block (SIDE, SIDE)
// Loads   of y along its k, of w along its c.
extern "C" __global__ void __launch_bounds__(BLOCK) conv2d_transpose(
    const float* __restrict__ y,  // (N,P,Q,K)
    const float* __restrict__ w,  // (K,R,S,C)
    float* __restrict__ x,        // (N,H,W,C)
    int N, int H, int W, int C, int P, int Q, int K, int padding) {
    alignas(16) __shared__ float a[DEPTH][PITCH], b[DEPTH][PITCH];
    const Phase phase = phase_of(blockIdx.z, STRIDE, padding, H, W, R, S);
    const int rows = N * phase.height * phase.width, depth = phase.taps_r * phase.taps_s * K;
    const int row0 = blockIdx.x * TILE, column0 = blockIdx.y * TILE;
    if (row0 >= rows) return;  // the grid has the largest phase's size; all threads of a block return or none

    const int thread = threadIdx.y * SIDE + threadIdx.x;
    const int deep = thread % DEPTH, line = thread / DEPTH;    // fills a at d0 + deep of the lines line + LINES_APART u,
    const int line_b = thread % TILE, deep_b = thread / TILE;  // b at d0 + deep_b + DEPTHS_APART u of the line line_b
    const int column = column0 + line_b;

    Pixel start[FILL];  // of y: what tap (0, 0) of this thread's lines meets
#pragma unroll
    for (int u = 0; u < FILL; ++u) {
        const Pixel out = pixel_at(row0 + line + LINES_APART * u, phase.height, phase.width);
        const int i = phase.i0 + out.i * STRIDE, j = phase.j0 + out.j * STRIDE;
        start[u] = {out.n, (i + padding) / STRIDE, (j + padding) / STRIDE};
    }

    float sum[MICRO][MICRO] = {};
    for (int d0 = 0; d0 < depth; d0 += DEPTH) {
        const int d = d0 + deep, tap_r = d / K / phase.taps_s, tap_s = d / K % phase.taps_s, k = d % K;
#pragma unroll
        for (int u = 0; u < FILL; ++u) {
            const int p = start[u].i - tap_r, q = start[u].j - tap_s;
            const bool inside = d < depth && start[u].n < N && 0 <= p && p < P && 0 <= q && q < Q;
            a[deep][line + LINES_APART * u] = inside ? y[offset(start[u].n, p, q, P, Q, K) + k] : 0.0f;
        }
#pragma unroll
        for (int u = 0; u < FILL; ++u) {
            const int d = d0 + deep_b + DEPTHS_APART * u, k = d % K;
            const int r = phase.r0 + d / K / phase.taps_s * STRIDE, s = phase.s0 + d / K % phase.taps_s * STRIDE;
            b[deep_b + DEPTHS_APART * u][line_b] = d < depth && column < C ? w[offset(k, r, s, R, S, C) + column] : 0.0f;
        }
        __syncthreads();  // the tiles are full
        multiply_tiles(a, b, sum);
        __syncthreads();  // and may be overwritten
    }

#pragma unroll
    for (int u = 0; u < MICRO; ++u) {
        const int row = row0 + MICRO * threadIdx.y + u;
        const Pixel out = pixel_at(row, phase.height, phase.width);
        const long long pixel = offset(out.n, phase.i0 + out.i * STRIDE, phase.j0 + out.j * STRIDE, H, W, C);
#pragma unroll
        for (int v = 0; v < MICRO; ++v) {
            const int c = column0 + threadIdx.x + SIDE * v;
            if (row < rows && c < C) x[pixel + c] = sum[u][v];
        }
    }
}

// ---- conv2d_weight_grad: w = dT/dw ----------------------------------------------------------------------------------
// Launch  grid (tiles of R S C, tiles of K, parts), block (SIDE, SIDE). The sum over all (n, p, q) is long and w
//         is small: here parts are many.
// Loads   64 neighbouring threads take 64 neighbouring k of one pixel of y, and 64 neighbouring (r, s, c) of the
//         window of x that it came from.
extern "C" __global__ void __launch_bounds__(BLOCK) conv2d_weight_grad(
    const float* __restrict__ x,  // (N,H,W,C)
    const float* __restrict__ y,  // (N,P,Q,K), that is (depth, K)
    float* __restrict__ w,        // (parts,K,R,S,C), that is (parts, K, columns)
    int N, int H, int W, int C, int P, int Q, int K, int padding, int parts) {
    alignas(16) __shared__ float a[DEPTH][PITCH], b[DEPTH][PITCH];
    const int columns = R * S * C, depth = N * P * Q;
    const int row0 = blockIdx.y * TILE, column0 = blockIdx.x * TILE;
    const int thread = threadIdx.y * SIDE + threadIdx.x;
    const int line = thread % TILE, deep = thread / TILE;  // fills d0 + deep + DEPTHS_APART u of this line
    const int k = row0 + line, column = column0 + line;
    const int r = column / C / S, s = column / C % S, c = column % C;

    float sum[MICRO][MICRO] = {};
    const int end = part_begin(blockIdx.z + 1, parts, depth);
    for (int d0 = part_begin(blockIdx.z, parts, depth); d0 < end; d0 += DEPTH) {
#pragma unroll
        for (int u = 0; u < FILL; ++u) {
            const int d = d0 + deep + DEPTHS_APART * u;
            const Pixel at = pixel_at(d, P, Q);
            const int i = at.i * STRIDE + r - padding, j = at.j * STRIDE + s - padding;
            const bool inside = d < depth && column < columns && 0 <= i && i < H && 0 <= j && j < W;
            a[deep + DEPTHS_APART * u][line] = d < depth && k < K ? y[(long long)d * K + k] : 0.0f;
            b[deep + DEPTHS_APART * u][line] = inside ? x[offset(at.n, i, j, H, W, C) + c] : 0.0f;
        }
        __syncthreads();  // the tiles are full
        multiply_tiles(a, b, sum);
        __syncthreads();  // and may be overwritten
    }

    store_tile(sum, w + (long long)blockIdx.z * K * columns, row0, column0, K, columns);
}
