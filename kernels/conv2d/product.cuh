// product.cuh: a block's tile of a product of two matrices, out (rows, columns) = a (rows, depth) b (depth, columns)
//
// a and b need not be in memory: whoever includes this says where the four floats of a copy come from. Sums are float32.
//
// Operands   BITS of a number are multiplied: 32, float32, on the ordinary cores; 19, TF32, or 16, bf16, on the tensor
//            cores. Both are float32 in memory and in shared memory, since cp.async cannot convert; a number is rounded
//            when it has come to a register. So bf16 has TF32's traffic and twice its rate of multiplication: it gains
//            where that was the limit. (Rounding on the way to shared memory would halve the traffic there, but take
//            the numbers through registers, and those are taken by the sums.)
// Depths     A sum may be taken in any order, if a and b agree on it. Fragments of 16 lines x 8 depths are what TF32's
//            instruction takes; two of them, rounded and paired, are what bf16's takes, with depths t and t + 4 of each
//            in one register. One way of reading shared memory serves both.
// Block      THREADS = 128: 4 warps, 2 x 2, make TILE_ROWS x TILE_COLUMNS of out. A warp makes a quarter, as fragments
//            of 16 x 8; the larger the quarter, the more multiplications for each number read from shared memory. Lane
//            4 g + t has rows g, g + 8 and columns 2 t, 2 t + 1 of each fragment, whoever multiplies.
// Shared     STAGES tiles of a and of b, dynamic. A tile lies as its matrix lies in memory, four floats a copy:
//              DepthTile (LINES, DEPTH + 4)  where neighbours in d are neighbours in memory
//              LineTile  (DEPTH, LINES + 8)  where neighbouring lines are
//            The padding makes every read of a fragment free of bank conflicts: rows of DEPTH + 4 floats, an odd
//            multiple of four, begin in 8 different fours of the 32 banks, and rows of LINES + 8 floats 8 banks apart.
// Sums       Every element is summed by one warp in an order that depends on the shapes, the tile and the parts alone.

#include "../launch/tensor_cores.cuh"

constexpr int THREADS = 128;
constexpr int WARP_ROWS = TILE_ROWS / 2, WARP_COLUMNS = TILE_COLUMNS / 2;  // of out that a warp makes
constexpr int DOWN = WARP_ROWS / 16, ACROSS = WARP_COLUMNS / 16;           // its blocks of 16 x 16
constexpr int SLICE = BITS == 32 ? 4 : BITS == 19 ? 8 : 16;                // depths that are multiplied at once

constexpr int UNROLLED = BITS == 32 ? 1 : DEPTH / SLICE;  // a slice in float32 is long, and leaves no registers for two

// ---- tiles in shared memory -----------------------------------------------------------------------------------------
// A tile is filled by copies of four floats. Thread t makes COPIES of them: it begins at (line, depth) and moves on by
// STEP lines, or by STEP depths.
template <int LINES> struct DepthTile {
    static constexpr int STEP = THREADS / (DEPTH / 4), COPIES = LINES / STEP;
    float at[LINES][DEPTH + 4];
    static __device__ int line(int thread) { return thread / (DEPTH / 4); }
    static __device__ int depth(int thread) { return thread % (DEPTH / 4) * 4; }

    // Of the 16 lines and 8 depths that begin at (line, d), lane (g, t) gets (g, t), (g + 8, t), (g, t + 4), (g + 8, t + 4).
    __device__ void load(int line, int d, int lane, float (&fragment)[4]) const {
        load_pieces(&at[line + lane % 16][d + lane / 16 * 4], fragment);
    }

    // Depths d to d + 3 of one line.
    __device__ void load_four(int line, int d, float (&four)[4]) const {
        const float4 read = *reinterpret_cast<const float4*>(&at[line][d]);
        four[0] = read.x, four[1] = read.y, four[2] = read.z, four[3] = read.w;
    }
};

template <int LINES> struct LineTile {
    static constexpr int STEP = THREADS / (LINES / 4), COPIES = DEPTH / STEP;
    float at[DEPTH][LINES + 8];
    static __device__ int line(int thread) { return thread % (LINES / 4) * 4; }
    static __device__ int depth(int thread) { return thread / (LINES / 4); }

    __device__ void load(int line, int d, int lane, float (&fragment)[4]) const {
        const int g = lane / 4, t = lane % 4;
#pragma unroll
        for (int e = 0; e < 4; ++e) fragment[e] = at[d + t + e / 2 * 4][line + g + e % 2 * 8];
    }

    __device__ void load_four(int line, int d, float (&four)[4]) const {
#pragma unroll
        for (int e = 0; e < 4; ++e) four[e] = at[d + e][line];
    }
};

template <class A, class B> struct Stage {
    A a;
    B b;
};

// ---- the multiplication ---------------------------------------------------------------------------------------------
typedef float Sums[DOWN][ACROSS][2][4];  // (16 rows, 16 columns, 8 of them, a lane's) registers: out of one warp

#if BITS == 32
// sums += a b for the SLICE = 4 depths that begin at d, and the warp's rows and columns that begin at (row, column). Each
// number that a lane reads serves 4 DOWN or 2 ACROSS multiply-adds.
template <class A, class B>
__device__ void multiply_slice(const A& a, const B& b, int row, int column, int d, int lane, Sums& sums) {
    const int g = lane / 4, t = lane % 4;
    float rows[2 * DOWN][4];  // (rows g, g + 8, ..., depths) registers
#pragma unroll
    for (int u = 0; u < 2 * DOWN; ++u) a.load_four(row + 8 * u + g, d, rows[u]);
#pragma unroll
    for (int v = 0; v < 2 * ACROSS; ++v) {
#pragma unroll
        for (int e = 0; e < 2; ++e) {
            float of_column[4];  // (depths,) registers
            b.load_four(column + 8 * v + 2 * t + e, d, of_column);
#pragma unroll
            for (int u = 0; u < 2 * DOWN; ++u) {
#pragma unroll
                for (int k = 0; k < 4; ++k) sums[u / 2][v / 2][v % 2][u % 2 * 2 + e] += rows[u][k] * of_column[k];
            }
        }
    }
}
#else
// The 16 lines and SLICE depths of a tile that begin at (line, d), rounded: for lane (g, t) in bits[0] and [1] lines g
// and g + 8 at the lower half of the depths, in bits[2] and [3] at the upper half.
template <class Tile>
__device__ void load_operand(const Tile& tile, int line, int d, int lane, unsigned (&bits)[4]) {
    float lower[4];
    tile.load(line, d, lane, lower);
#if BITS == 19
#pragma unroll
    for (int e = 0; e < 4; ++e) bits[e] = tf32(lower[e]);
#else
    float upper[4];
    tile.load(line, d + 8, lane, upper);
    bits[0] = bf16_pair(lower[0], lower[2]);
    bits[1] = bf16_pair(lower[1], lower[3]);
    bits[2] = bf16_pair(upper[0], upper[2]);
    bits[3] = bf16_pair(upper[1], upper[3]);
#endif
}

// sums += a b for the SLICE depths that begin at d, and the warp's rows and columns that begin at (row, column).
template <class A, class B>
__device__ void multiply_slice(const A& a, const B& b, int row, int column, int d, int lane, Sums& sums) {
    unsigned rows[DOWN][4], columns[ACROSS][4];
#pragma unroll
    for (int u = 0; u < DOWN; ++u) load_operand(a, row + 16 * u, d, lane, rows[u]);
#pragma unroll
    for (int v = 0; v < ACROSS; ++v) load_operand(b, column + 16 * v, d, lane, columns[v]);
#pragma unroll
    for (int u = 0; u < DOWN; ++u) {
#pragma unroll
        for (int v = 0; v < ACROSS; ++v) {
#pragma unroll
            for (int half = 0; half < 2; ++half) {  // of the 16 columns: the instruction takes 8
#if BITS == 19
                mma_tf32(sums[u][v][half], rows[u], columns[v][half], columns[v][half + 2]);
#else
                mma_bf16(sums[u][v][half], rows[u], columns[v][half], columns[v][half + 2]);
#endif
            }
        }
    }
}
#endif

// All `tiles` of a block's sum. fill(stage) starts to copy the next tile of a and of b.
// In turn t the copies of tile t have landed, those of the STAGES - 2 tiles after it are under way, and those of tile
// t + STAGES - 1 start, where tile t - 1 was: one barrier says both that every thread's copies of tile t are there and
// that every warp is done with tile t - 1.
template <class A, class B, class Fill>
__device__ void multiply(Stage<A, B>* stages, int tiles, Fill fill, Sums& sums) {
#pragma unroll
    for (int t = 0; t < STAGES - 1; ++t) {
        if (t < tiles) fill(stages[t]);
        close_copies();
    }
    const int lane = threadIdx.x % 32, row = threadIdx.x / 64 * WARP_ROWS, column = threadIdx.x / 32 % 2 * WARP_COLUMNS;
    int now = 0, next = STAGES - 1;  // t and t + STAGES - 1, modulo STAGES
    for (int t = 0; t < tiles; ++t) {
        wait_copies<STAGES - 2>();
        __syncthreads();
        if (t + STAGES - 1 < tiles) fill(stages[next]);
        close_copies();  // an empty group too, so that their number says which tile is there
#pragma unroll UNROLLED
        for (int d = 0; d < DEPTH; d += SLICE) multiply_slice(stages[now].a, stages[now].b, row, column, d, lane, sums);
        now = now + 1 == STAGES ? 0 : now + 1;
        next = next + 1 == STAGES ? 0 : next + 1;
    }
}

// Calls store(row, column, two sums) for each two neighbouring columns of the tile at (row0, column0) that lie inside.
template <class Store>
__device__ void store_sums(const Sums& sums, int row0, int column0, int rows, int columns, Store store) {
    const int lane = threadIdx.x % 32;
    row0 += threadIdx.x / 64 * WARP_ROWS + lane / 4;
    column0 += threadIdx.x / 32 % 2 * WARP_COLUMNS + lane % 4 * 2;
#pragma unroll
    for (int u = 0; u < DOWN; ++u) {
#pragma unroll
        for (int below = 0; below < 2; ++below) {  // the fragment's rows g and g + 8
            const int row = row0 + 16 * u + 8 * below;
#pragma unroll
            for (int v = 0; v < 2 * ACROSS; ++v) {
                const int column = column0 + 8 * v;
                const float(&sum)[4] = sums[u][v / 2][v % 2];
                if (row < rows && column < columns) store(row, column, make_float2(sum[2 * below], sum[2 * below + 1]));
            }
        }
    }
}

// The tiles of a sum of `depth` terms that are this part's: from the first to before the last.
struct Part {
    int first, last;
};
__device__ Part part_of(int part, int parts, int depth) {
    const long long tiles = (depth + DEPTH - 1) / DEPTH;
    return {int(tiles * part / parts), int(tiles * (part + 1) / parts)};
}

__device__ void store_pair(float* to, float2 pair) { *reinterpret_cast<float2*>(to) = pair; }
