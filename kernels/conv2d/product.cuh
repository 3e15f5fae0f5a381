// product.cuh: a block's tile of a product of two matrices, out (rows, columns) = a (rows, depth) b (depth, columns)
//
// a and b need not be in memory: whoever includes this says where the 16 bytes of a copy come from. Sums are float32.
//
// Operands   BITS of a number are multiplied: 32, float32, on the ordinary cores; 19, TF32, or 16, bf16, on the tensor
//            cores. A TF32 is a float32 in memory and in shared memory, and rounded when it has come to a register. cp.async
//            cannot convert, so what is multiplied as bf16 has been made bf16 before (operand.cu): it is half as
//            much to fetch, and ready for the tensor cores.
// Depths     Lane t of four has depths d + t and d + t + 4 of 8 in TF32, and d + 2 t, d + 2 t + 8 and the next of each of 16
//            in bf16: 4 bytes of each of two copies, either way.
// Block      4 or 8 warps (THREADS = 128 or 256), ACROSS of them beside each other, make TILE_ROWS x TILE_COLUMNS of out. A
//            warp makes its part of it in fragments of 16 x 8; the larger the part, the more multiplications for each number
//            read from shared memory, and the larger the whole, the more for each number read from the L2 cache. Lane
//            4 g + t has rows g, g + 8 and columns 2 t, 2 t + 1 of each fragment, whoever multiplies.
// Shared     STAGES tiles of a and of b, dynamic: stage.cuh. For 256 x 128 in three stages, 4 copies deep, 73,728 bytes, or
//            if both are LineTiles 76,800. No bank conflicts.
// Sums       Every element is summed by one warp in an order that depends on the shapes, the tile and the parts alone.

#include "../launch/dynamic_shared.cuh"
#include "../launch/tensor_cores.cuh"
#include "stage.cuh"

constexpr int RESIDENT = 256 / THREADS;  // blocks of a multiprocessor
constexpr int DOWN = THREADS / 32 / ACROSS;                                           // warps below each other
constexpr int WARP_ROWS = TILE_ROWS / DOWN, WARP_COLUMNS = TILE_COLUMNS / ACROSS;     // of out that a warp makes
constexpr int ROW_EIGHTS = WARP_ROWS / 8, COLUMN_EIGHTS = WARP_COLUMNS / 8;
constexpr int SLICE = BITS == 32 ? 4 : BITS == 19 ? 8 : 16;                  // depths that are multiplied at once

constexpr int EARLY = BITS == 32 ? 0 : SLICE;  // depths that are multiplied before the next copies start
constexpr int UNROLLED = BITS == 32 ? 1 : DEPTH / SLICE;  // a slice in float32 is long, and leaves no registers for two

// Where in the tile this thread's warp makes its part.
__device__ int warp_row() { return threadIdx.x / 32 / ACROSS * WARP_ROWS; }
__device__ int warp_column() { return threadIdx.x / 32 % ACROSS * WARP_COLUMNS; }

// ---- the multiplication ---------------------------------------------------------------------------------------------
// Of one warp's out, registers: 16 rows, two eights of a; 8 columns, an eight of b; and a lane's of them: rows g, g,
// g + 8, g + 8 and columns 2 t, 2 t + 1, 2 t, 2 t + 1
typedef float Sums[ROW_EIGHTS / 2][COLUMN_EIGHTS][4];

#if BITS == 32
// sums += a b for the SLICE = 4 depths that begin at d, and the warp's rows and columns that begin at (row, column). Each
// number that a lane reads serves 2 COLUMN_EIGHTS or ROW_EIGHTS multiply-adds.
template <class A, class B>
__device__ void multiply_slice(const A& a, const B& b, int row, int column, int d, int lane, Sums& sums) {
    const int g = lane / 4, t = lane % 4;
    float rows[ROW_EIGHTS / 4][4][4];  // (four eights, eight, depth) registers
#pragma unroll
    for (int u = 0; u < ROW_EIGHTS; u += 4) a.load_four(row + 8 * u, d, g, rows[u / 4]);
#pragma unroll
    for (int v = 0; v < COLUMN_EIGHTS; v += 4) {
#pragma unroll
        for (int e = 0; e < 2; ++e) {
            float columns[4][4];  // (eight, depth) registers
            b.load_four(column + 8 * v, d, 2 * t + e, columns);
#pragma unroll
            for (int u = 0; u < ROW_EIGHTS; ++u) {
#pragma unroll
                for (int i = 0; i < 4; ++i) {
#pragma unroll
                    for (int k = 0; k < 4; ++k)
                        sums[u / 2][v + i][u % 2 * 2 + e] += rows[u / 4][u % 4][k] * columns[i][k];
                }
            }
        }
    }
}
#else
// For lane (g, t), of each eight's line g: in bits[b][0] the lower half of the SLICE depths that begin at d, in bits[b][1]
// the upper half.
template <Operand OPERAND, class Tile, int EIGHTS>
__device__ void load_operand(const Tile& tile, int first, int d, int lane, unsigned (&bits)[EIGHTS][2]) {
    tile.template load<OPERAND>(first, d, lane, bits);
#if BITS == 19
#pragma unroll
    for (int b = 0; b < EIGHTS; ++b)
        bits[b][0] = tf32(__uint_as_float(bits[b][0])), bits[b][1] = tf32(__uint_as_float(bits[b][1]));
#endif
}

// sums += a b for the SLICE depths that begin at d, and the warp's rows and columns that begin at (row, column).
template <class A, class B>
__device__ void multiply_slice(const A& a, const B& b, int row, int column, int d, int lane, Sums& sums) {
    unsigned rows[ROW_EIGHTS][2], columns[COLUMN_EIGHTS][2];  // (eight, half) registers
    load_operand<A_ROWS>(a, row, d, lane, rows);
    load_operand<B_COLUMNS>(b, column, d, lane, columns);
#pragma unroll
    for (int u = 0; u < ROW_EIGHTS; u += 2) {
        const unsigned sixteen[4] = {rows[u][0], rows[u + 1][0], rows[u][1], rows[u + 1][1]};
#pragma unroll
        for (int v = 0; v < COLUMN_EIGHTS; ++v) {
#if BITS == 19
            mma_tf32(sums[u / 2][v], sixteen, columns[v][0], columns[v][1]);
#else
            mma_bf16(sums[u / 2][v], sixteen, columns[v][0], columns[v][1]);
#endif
        }
    }
}
#endif

// All `tiles` of a block's sum. fill(stage, there) starts to copy the next tile of a and of b; or zeros, if none is there.
// In turn t the copies of tile t have landed, those of the STAGES - 2 tiles after it are under way, and those of tile
// t + STAGES - 1 start, where tile t - 1 was: one barrier says both that every thread's copies of tile t are there and
// that every warp is done with tile t - 1. With STAGES = 3:
//      turn       0            1            2            3
//      stage 0    multiply 0   copy 3       .            multiply 3        . the copies are on their way
//      stage 1    .            multiply 1   copy 4       .
//      stage 2    copy 2       .            multiply 2   copy 5
// All warps leave the barrier together. Were addresses computed there, nothing would multiply meanwhile; so tensor cores
// are given the EARLY depths first. Nor is there a branch around the copies, past which the compiler would move nothing.
//
// landed(stage, bits) may change what this thread has copied of the next tile, where it waits for that itself: bits are
// what fill returned for the tile. It too is called between products, and not before the barrier.
// begin() is called once, while the first copies are under way.
template <class A, class B, class Fill, class Begin, class Landed>
__device__ void multiply(Stage<A, B>* stages, int tiles, Fill fill, Sums& sums, Begin begin, Landed landed) {
    unsigned bits[STAGES - 1];  // of the tiles under way, the newest last
#pragma unroll
    for (int t = 0; t < STAGES - 1; ++t) {
        bits[t] = fill(stages[t], t < tiles);
        close_copies();
    }
    begin();
    landed(stages[0], bits[0]);
    const int lane = threadIdx.x % 32, row = warp_row(), column = warp_column();
    int now = 0, before = STAGES - 1;  // t and t - 1, modulo STAGES
    for (int t = 0; t < tiles; ++t) {
        wait_copies<STAGES - 2>();
        __syncthreads();
#pragma unroll
        for (int d = 0; d < EARLY; d += SLICE)
            multiply_slice(stages[now].a, stages[now].b, row, column, d, lane, sums);
#pragma unroll
        for (int i = 0; i < STAGES - 2; ++i) bits[i] = bits[i + 1];
        bits[STAGES - 2] = fill(stages[before], t + STAGES - 1 < tiles);
        close_copies();  // of zeros too, so that their number says which tile is there
        const int soon = now + 1 == STAGES ? 0 : now + 1;  // t + 1, modulo STAGES
        landed(stages[soon], bits[0]);
#pragma unroll UNROLLED
        for (int d = EARLY; d < DEPTH; d += SLICE)
            multiply_slice(stages[now].a, stages[now].b, row, column, d, lane, sums);
        before = now;
        now = soon;
    }
    wait_copies<0>();  // no thread ends while zeros of its are still under way
}

// ---- the end of a tile ----------------------------------------------------------------------------------------------
// How a run of neighbours is put into its row of out, from a column on: as it is, or added to what is there.
struct Store {
    template <int NUMBERS> __device__ void operator()(float* row, int column, const Run<NUMBERS>& numbers) const {
        run<NUMBERS>(row + column) = numbers;
    }
};
struct Add {
    template <int NUMBERS> __device__ void operator()(float* row, int column, Run<NUMBERS> numbers) const {
        const Run<NUMBERS> there = run<NUMBERS>(row + column);
#pragma unroll
        for (int i = 0; i < NUMBERS; ++i) numbers.at[i] += there.at[i];
        run<NUMBERS>(row + column) = numbers;
    }
};

// Puts what of the tile at (row0, column0) lies inside out. A and B: the tiles whose product it is. line(row): where a row
// of out begins; it is asked once for each, since it may have to divide.
template <class A, class B, class Line, class Put = Store>
__device__ void store_sums(
    const Sums& sums, int row0, int column0, int rows, int columns, Line line, Put put = Put()) {
    const int g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
    row0 += warp_row();
    column0 += warp_column();
#pragma unroll
    for (int u = 0; u < ROW_EIGHTS; ++u) {
        const int row = row0 + A::line_of(u, g);
        if (row >= rows) continue;
        float* const begin = line(row);
#pragma unroll
        for (int q = 0; q < 2 * COLUMN_EIGHTS / B::RUN; ++q) {
            const int column = column0 + B::line_of(B::held(q, 0).b, 2 * t + B::held(q, 0).e);
            if (column >= columns) continue;  // columns come in fours
            Run<B::RUN> numbers;
#pragma unroll
            for (int i = 0; i < B::RUN; ++i) {
                const Held held = B::held(q, i);
                numbers.at[i] = sums[u / 2][held.b][u % 2 * 2 + held.e];
            }
            put(begin, column, numbers);
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
