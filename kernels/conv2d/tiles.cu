// tiles.cu: pictures cut into tiles, tiles evaluated at points, and points turned back into pictures      (winograd.py)
//
// Shapes  pictures (N,H,W,C): an x, a w (its K filters are N pictures of R x S) or a y; float32, C-contiguous
//         points (n²,N,rows,columns,fold²,C): of each point the matrix that winograd.cu multiplies, a row for each tile
// Folds   With a stride that is folded away, pixel (fold i + a - padding, fold j + b - padding) of channel c is the
//         folded pixel (i, j) of channel (a, b, c); (a, b) is its phase, of fold².
// Tiles   SIDE x SIDE folded pixels become n x n numbers: matrix · tile · matrixᵀ. What is multiplied depends on the
//         letter of the form, so each has a build of its own, for M outputs a tile and TAPS of a folded filter:
//
//           LETTER  matrix (n, SIDE)  SIDE                a tile begins at every STEP pixels
//           x       B                 n = M + TAPS - 1    M: neighbours share TAPS - 1 rows or columns
//           w       G                 TAPS                a filter is one tile
//           y       A                 M                   M
//
// Block   32 channels x 8 tiles: a thread has one channel of one tile in registers, and what a warp reads or writes at
//         once are neighbours. Arithmetic is little, some ten multiply-adds a number: memory is the limit.
// Sums    Every number is summed by one thread, in an order that depends on the shapes alone.

#include "matrices.cuh"  // winograd.py writes it: B, G and A for every M and TAPS, in exact fractions
#include "normalise.cuh"

constexpr int POINTS = M + TAPS - 1;  // n
#if LETTER == 'x'
constexpr int SIDE = POINTS, STEP = M;
__device__ constexpr float MATRIX[POINTS][SIDE] = B;
#elif LETTER == 'w'
constexpr int SIDE = TAPS, STEP = TAPS;
__device__ constexpr float MATRIX[POINTS][SIDE] = G;
#elif LETTER == 'y'
constexpr int SIDE = M, STEP = M;
__device__ constexpr float MATRIX[POINTS][SIDE] = A;
#endif
constexpr int REACH = (SIDE + STEP - 1) / STEP;  // so many tiles in a row have a pixel in common, at most

// The matrix's number for point e and pixel i; 0 beyond the tile.
__device__ __forceinline__ float matrix(int e, int i) { return i < SIDE ? MATRIX[e][i] : 0.0f; }

// Where pixel (n, h, w) of a tensor (n, height, width, channels) begins.
__device__ long long offset(int n, int h, int w, int height, int width, int channels) {
    return (long long)((n * height + h) * width + w) * channels;
}

// ---- to_points ------------------------------------------------------------------------------------------------------
// pending: the pictures are rectified as they are read, or normalised by what comes after it (normalise.cuh); 0: as they are.
// Launch  grid (eights of tiles, thirty-twos of fold² C), block (32, 8)
extern "C" __global__ void __launch_bounds__(256) to_points(
    const float* __restrict__ pictures,  // (N,H,W,C)
    float* __restrict__ points,          // (POINTS²,N,rows,columns,fold²,C), that is (POINTS, POINTS, tiles, channels)
    const float* __restrict__ scale,     // (C,)
    const float* __restrict__ shift,     // (C,)
    const float* __restrict__ mean,      // (C,)
    const float* __restrict__ variance,  // (C,)
    int N, int rows, int columns, int H, int W, int C, int fold, int padding,
    int pending, float eps, float slope) {
    const int tiles = N * rows * columns, channels = fold * fold * C;
    const int tile = blockIdx.x * 8 + threadIdx.y, channel = blockIdx.y * 32 + threadIdx.x;
    if (tile >= tiles || channel >= channels) return;
    const int phase = channel / C, c = channel % C, n = tile / columns / rows;
    const int top = tile / columns % rows * STEP * fold + phase / fold - padding;  // pixel (0, 0) of the tile
    const int left = tile % columns * STEP * fold + phase % fold - padding;

    Column column = {};
    if (pending) column = column_of(pending, c, scale, shift, mean, variance, eps);

    const float* row = pictures + offset(n, top, left, H, W, C) + c;  // of the tile; it may begin outside the picture
    float across[SIDE][POINTS];                                       // tile · matrixᵀ
#pragma unroll
    for (int i = 0; i < SIDE; ++i) {
        const int h = top + i * fold;
        const float* at = row;
        float pixels[SIDE];   // of the row
        unsigned inside = 0;  // bit j: pixel j is one of the picture's
#pragma unroll
        for (int j = 0; j < SIDE; ++j) {
            const int w = left + j * fold;
            const bool there = 0 <= h && h < H && 0 <= w && w < W;
            pixels[j] = there ? *at : 0.0f;
            inside |= (unsigned)there << j;
            at += fold * C;
        }
        row += fold * W * C;
        if (pending) {
#pragma unroll
            for (int j = 0; j < SIDE; ++j)
                if (inside >> j & 1) pixels[j] = rectified(normalised(pixels[j], column), slope);
        }
#pragma unroll
        for (int f = 0; f < POINTS; ++f) {
            float sum = 0;
#pragma unroll
            for (int j = 0; j < SIDE; ++j)
                if (matrix(f, j) != 0) sum += matrix(f, j) * pixels[j];
            across[i][f] = sum;
        }
    }
#pragma unroll
    for (int e = 0; e < POINTS; ++e) {
#pragma unroll
        for (int f = 0; f < POINTS; ++f) {
            float sum = 0;
#pragma unroll
            for (int i = 0; i < SIDE; ++i)
                if (matrix(e, i) != 0) sum += matrix(e, i) * across[i][f];
            points[((long long)(e * POINTS + f) * tiles + tile) * channels + channel] = sum;
        }
    }
}

// ---- from_points ----------------------------------------------------------------------------------------------------
// The adjoint: matrixᵀ · points · matrix of every tile, and tiles that overlap are added up. A thread makes the STEP x
// STEP folded pixels of one `place`, out of the REACH x REACH tiles that cover it, the nearest first: of each only the
// part that lies there. So a tile's points are read by up to REACH² threads, at least half of them of one block.
// Launch  grid (eights of places, thirty-twos of fold² C), block (32, 8)
extern "C" __global__ void __launch_bounds__(256) from_points(
    const float* __restrict__ points,  // (POINTS²,N,rows,columns,fold²,C), that is (POINTS, POINTS, tiles, channels)
    float* __restrict__ pictures,      // (N,H,W,C), of down x across places each
    int N, int rows, int columns, int down, int across, int H, int W, int C, int fold, int padding) {
    const int tiles = N * rows * columns, channels = fold * fold * C;
    const int place = blockIdx.x * 8 + threadIdx.y, channel = blockIdx.y * 32 + threadIdx.x;
    if (place >= N * down * across || channel >= channels) return;
    const int phase = channel / C, c = channel % C, n = place / across / down;
    const int row = place / across % down, column = place % across;

    float pixels[STEP][STEP] = {};
#pragma unroll
    for (int back = 0; back < REACH * REACH; ++back) {
        const int up = back / REACH, aside = back % REACH;  // the place is so many STEPs into the tile
        if (row - up < 0 || row - up >= rows || column - aside < 0 || column - aside >= columns) continue;
        const int tile = (n * rows + row - up) * columns + column - aside;
        float vertical[STEP][POINTS] = {};  // matrixᵀ · points, the rows that lie in this place
#pragma unroll
        for (int e = 0; e < POINTS; ++e) {
#pragma unroll
            for (int f = 0; f < POINTS; ++f) {
                const float value = points[((long long)(e * POINTS + f) * tiles + tile) * channels + channel];
#pragma unroll
                for (int i = 0; i < STEP; ++i)
                    if (matrix(e, up * STEP + i) != 0) vertical[i][f] += matrix(e, up * STEP + i) * value;
            }
        }
#pragma unroll
        for (int i = 0; i < STEP; ++i) {
#pragma unroll
            for (int j = 0; j < STEP; ++j) {
                float sum = 0;
#pragma unroll
                for (int f = 0; f < POINTS; ++f)
                    if (matrix(f, aside * STEP + j) != 0) sum += matrix(f, aside * STEP + j) * vertical[i][f];
                pixels[i][j] += sum;
            }
        }
    }
    const int top = row * STEP * fold + phase / fold - padding, left = column * STEP * fold + phase % fold - padding;
    float* line = pictures + offset(n, top, left, H, W, C) + c;  // of the place; it may begin outside the picture
#pragma unroll
    for (int i = 0; i < STEP; ++i) {
        float* at = line;
#pragma unroll
        for (int j = 0; j < STEP; ++j) {
            const int h = top + i * fold, w = left + j * fold;
            if (0 <= h && h < H && 0 <= w && w < W) *at = pixels[i][j];
            at += fold * C;
        }
        line += fold * W * C;
    }
}
