// winograd.cu: the three derivatives of T in Winograd's form: at each of n² points, a product of matrices  (winograd.py)
//
// Shapes  x (n²,tiles,F)  w (n²,K,F)  y (n²,tiles,K): the letters at the points, where F = fold² C; float32, 16-byte
//         aligned, F and K multiples of 4. tiles.cu has made two of them from pictures, and makes one from the third.
//
//           kernel              out (rows, columns)   a (rows, depth)   b (depth, columns)
//           conv2d              y (tiles, K)          x (tiles, F)      wᵀ (F, K)
//           conv2d_transpose    x (tiles, F)          y (tiles, K)      w (K, F)
//           conv2d_weight_grad  w (K, F)              yᵀ (K, tiles)     x (tiles, F)
//
// The idea over pipeline.cu is fewer multiplications, for more to read and to write. Gained: not measured yet.
//
// Product product.cuh multiplies, on the ordinary cores, and says what a block is and in which order it sums.
// Launch  grid (blocks of rows, of columns, parts * points), block (THREADS)
// Sums    As in pipeline.cu a long sum may fall into `parts`, each with an `out` of its own.

#include "product.cuh"

// Starts to copy the tile that begins at (line0, d0) of a matrix (lines, depth), whose neighbours in d are neighbours.
template <int LINES>
__device__ void copy_tile(
    DepthTile<LINES>& tile, const float* __restrict__ matrix, int line0, int d0, int lines, int depth) {
    const int d = tile.depth(threadIdx.x);
#pragma unroll
    for (int u = 0; u < tile.COPIES; ++u) {
        const int line = tile.line(threadIdx.x) + tile.STEP * u;
        const float* from = matrix + (long long)(line0 + line) * depth + d0 + d;
        copy_async(tile.copied(u), from, line0 + line < lines && d0 + d < depth);
    }
}

// The same of a matrix (depth, lines), whose neighbouring lines are neighbours.
template <int LINES>
__device__ void copy_tile(
    LineTile<LINES>& tile, const float* __restrict__ matrix, int line0, int d0, int lines, int depth) {
    const int line = tile.line(threadIdx.x);
#pragma unroll
    for (int u = 0; u < tile.COPIES; ++u) {
        const int d = tile.depth(threadIdx.x) + tile.STEP * u;
        const float* from = matrix + (long long)(d0 + d) * lines + line0 + line;
        copy_async(tile.copied(u), from, line0 + line < lines && d0 + d < depth);
    }
}

// A block's part of out = a b at its point, or with `more` of out += a b. A and B say which neighbours are neighbours in
// memory.
template <class A, class B>
__device__ void multiply_points(
    const float* __restrict__ a,  // (points,rows,depth), or (points,depth,rows)
    const float* __restrict__ b,  // (points,columns,depth), or (points,depth,columns)
    float* __restrict__ out,      // (parts,points,rows,columns)
    int points, int rows, int columns, int depth, int parts, bool more) {
    typedef Stage<A, B> Tiles;
    DYNAMIC_SHARED(Tiles, stages);  // (STAGES,)
    const int point = blockIdx.z % points, row0 = blockIdx.x * TILE_ROWS, column0 = blockIdx.y * TILE_COLUMNS;
    const Part part = part_of(blockIdx.z / points, parts, depth);
    a += (long long)point * rows * depth;
    b += (long long)point * columns * depth;
    out += (long long)blockIdx.z * rows * columns;

    int d = part.first * DEPTH;  // that is copied next
    const auto fill = [&](Tiles& stage, bool there) {
        const int end = there ? depth : 0;
        copy_tile(stage.a, a, row0, d, rows, end);
        copy_tile(stage.b, b, column0, d, columns, end);
        d += DEPTH;
        return 0u;
    };
    Sums sums = {};
    multiply(stages, part.last - part.first, fill, sums, [] {}, [](Tiles&, unsigned) {});
    const auto line = [&](int row) { return out + (long long)row * columns; };
    if (more) store_sums<A, B>(sums, row0, column0, rows, columns, line, Add());
    else store_sums<A, B>(sums, row0, column0, rows, columns, line);
}

// ---- conv2d: y = x wᵀ -----------------------------------------------------------------------------------------------
extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT) conv2d(
    const float* __restrict__ x,  // (points,tiles,F)
    const float* __restrict__ w,  // (points,K,F)
    float* __restrict__ y,        // (parts,points,tiles,K)
    int points, int tiles, int K, int F, int parts) {
    multiply_points<DepthTile<TILE_ROWS>, DepthTile<TILE_COLUMNS>>(x, w, y, points, tiles, K, F, parts, false);
}

// ---- conv2d_transpose: x = y w --------------------------------------------------------------------------------------
extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT) conv2d_transpose(
    const float* __restrict__ y,  // (points,tiles,K)
    const float* __restrict__ w,  // (points,K,F)
    float* __restrict__ x,        // (parts,points,tiles,F)
    int points, int tiles, int F, int K, int parts) {
    multiply_points<DepthTile<TILE_ROWS>, LineTile<TILE_COLUMNS>>(y, w, x, points, tiles, F, K, parts, false);
}

// ---- conv2d_weight_grad: w = yᵀ x -----------------------------------------------------------------------------------
// more: the tiles are not the first that go through, and what they give is added to what is there.
extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT) conv2d_weight_grad(
    const float* __restrict__ y,  // (points,tiles,K)
    const float* __restrict__ x,  // (points,tiles,F)
    float* __restrict__ w,        // (parts,points,K,F)
    int points, int K, int F, int tiles, int parts, int more) {
    multiply_points<LineTile<TILE_ROWS>, LineTile<TILE_COLUMNS>>(y, x, w, points, K, F, tiles, parts, more);
}
