// moments.cuh: of each column of a block's tile of out, the sum and the sum of squares about its own mean
//
// A tile is a chunk of rows for batch norm (../batch_norm/batch_norm.cu, batch_norm_moments). While it is still in
// registers nobody has to read it again. Only where a sum is in one part: else no block knows the whole of it.
// Shared  partial (2, DOWN, TILE_COLUMNS): of the sums, then of the squares, what each of a column's warps has; 4,096 bytes
//         at 256 x 128
// Sums    a lane adds its rows in their order; the 8 lanes of a column, in a tree; then the warps of a column, in theirs.

// From what each lane has of its columns to what the tile has, given to each lane.
template <class B>
__device__ void sum_over_tile(
    float (&column)[COLUMN_EIGHTS][2],  // (eight, e): column 2 t + e of it
    float (&partial)[DOWN][TILE_COLUMNS]) {
    const int g = threadIdx.x % 32 / 4, t = threadIdx.x % 4, first = warp_column();
#pragma unroll
    for (int v = 0; v < COLUMN_EIGHTS; ++v) {
#pragma unroll
        for (int e = 0; e < 2; ++e) {
            float sum = column[v][e];
#pragma unroll
            for (int lanes = 4; lanes < 32; lanes *= 2) sum += __shfl_xor_sync(~0u, sum, lanes);
            if (g == 0) partial[threadIdx.x / 32 / ACROSS][first + B::line_of(v, 2 * t + e)] = sum;
        }
    }
    __syncthreads();
#pragma unroll
    for (int v = 0; v < COLUMN_EIGHTS; ++v) {
#pragma unroll
        for (int e = 0; e < 2; ++e) {
            const int line = first + B::line_of(v, 2 * t + e);
            column[v][e] = partial[0][line];
#pragma unroll
            for (int warp = 1; warp < DOWN; ++warp) column[v][e] += partial[warp][line];
        }
    }
}

// Puts them into sums and squares (columns,), for the `rows` rows of the tile at column0 that lie inside out.
template <class A, class B>
__device__ void store_moments(
    const Sums& tile, int rows, int column0, int columns, float* __restrict__ sums, float* __restrict__ squares) {
    const int g = threadIdx.x % 32 / 4, t = threadIdx.x % 4, row0 = warp_row();
    column0 += warp_column();
    const auto store = [&](const float(&column)[COLUMN_EIGHTS][2], float* to) {  // once for each column of the tile
        if (row0 != 0 || g != 0) return;
#pragma unroll
        for (int v = 0; v < COLUMN_EIGHTS; ++v) {
#pragma unroll
            for (int e = 0; e < 2; ++e) {
                const int c = column0 + B::line_of(v, 2 * t + e);
                if (c < columns) to[c] = column[v][e];
            }
        }
    };
    float sum[COLUMN_EIGHTS][2] = {}, square[COLUMN_EIGHTS][2] = {};  // registers, as above
    __shared__ float partial[2][DOWN][TILE_COLUMNS];
#pragma unroll
    for (int u = 0; u < ROW_EIGHTS; ++u) {
        if (row0 + A::line_of(u, g) >= rows) continue;
#pragma unroll
        for (int v = 0; v < COLUMN_EIGHTS; ++v) {
#pragma unroll
            for (int e = 0; e < 2; ++e) sum[v][e] += tile[u / 2][v][u % 2 * 2 + e];
        }
    }
    sum_over_tile<B>(sum, partial[0]);
    store(sum, sums);

    float mean[COLUMN_EIGHTS][2];
#pragma unroll
    for (int v = 0; v < COLUMN_EIGHTS; ++v) mean[v][0] = sum[v][0] / rows, mean[v][1] = sum[v][1] / rows;
#pragma unroll
    for (int u = 0; u < ROW_EIGHTS; ++u) {
        if (row0 + A::line_of(u, g) >= rows) continue;
#pragma unroll
        for (int v = 0; v < COLUMN_EIGHTS; ++v) {
#pragma unroll
            for (int e = 0; e < 2; ++e) {
                const float distance = tile[u / 2][v][u % 2 * 2 + e] - mean[v][e];
                square[v][e] += distance * distance;
            }
        }
    }
    sum_over_tile<B>(square, partial[1]);
    store(square, squares);
}
