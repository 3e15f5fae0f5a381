// stage.cuh: the tiles of two matrices in shared memory, as they are copied there and as they are read
//
// Number     what the matrices are made of: float, or unsigned short, which holds a bf16. A copy is of 16 bytes: COPY
//            neighbours, 4 or 8. (number.cuh, which format.py writes)
// Tiles      A tile lies as its matrix lies in memory, its rows a little apart:
//              DepthTile (LINES, DEPTH + COPY)  where neighbours in d are neighbours in memory
//              LineTile  (DEPTH, LINES + 8)     where neighbouring lines are
// Copies     Thread t makes COPIES of them: it begins at (line, depth) and moves on by STEP lines, or by STEP depths.
// Reads      in blocks of 8 lines from line `first` on: line_of(b, g) is line g of block b. Which 8 lines are a block's is
//            free: it says which rows and columns of out are whose, no more. So a tile names them so that no two lanes
//            of a read want one bank:
//              DepthTile, and LineTile of bf16: block b is lines 8 b + g. ldmatrix reads 8 rows of 16 bytes, which begin
//              an odd multiple of 16 bytes apart: in 8 different fours of the 32 banks. The rows of a LineTile are depths,
//              so it exchanges rows and columns; numbers of 16 bits can do that.
//              LineTile of floats: blocks 4 q to 4 q + 3 are lines 32 q + 4 g, and the three after each: a lane reads one
//              four for four blocks. Rows of LINES + 8 floats begin 8 banks apart; 8 lanes with 2 g and 4 t take each
//              four once.

#include "number.cuh"

template <int NUMBERS> struct alignas(4 * NUMBERS) Run {  // neighbouring floats, read or written at once
    float at[NUMBERS];
};

template <int NUMBERS> __device__ Run<NUMBERS>& run(float* first) { return *reinterpret_cast<Run<NUMBERS>*>(first); }

template <int NUMBERS> __device__ const Run<NUMBERS>& run(const float* first) {
    return *reinterpret_cast<const Run<NUMBERS>*>(first);
}

// Which number of out a lane holds, where lines of b are columns of out: column 2 t + e of block b.
struct Held {
    int b, e;
};

// Which of the four pieces that are read at once is which half of which of two blocks: for a, both lower halves and then
// both upper ones; for b, a block and then the other. So mma finds its operands in neighbouring registers, and none is
// moved.
enum Operand { A_ROWS, B_COLUMNS };

template <Operand OPERAND> __device__ int block_of(int piece) { return OPERAND == A_ROWS ? piece % 2 : piece / 2; }
template <Operand OPERAND> __device__ int half_of(int piece) { return OPERAND == A_ROWS ? piece / 2 : piece % 2; }

// Of BLOCKS blocks, two at a time: read(b, half, pieces) has the lanes of a piece read this half of block b.
template <Operand OPERAND, int BLOCKS, class Read>
__device__ void load_blocks(int lane, unsigned (&block)[BLOCKS][2], Read read) {
    const int which = block_of<OPERAND>(lane / 8), half = half_of<OPERAND>(lane / 8);
#pragma unroll
    for (int b = 0; b < BLOCKS; b += 2) {
        unsigned pieces[4];
        read(b + which, half, pieces);
#pragma unroll
        for (int i = 0; i < 4; ++i) block[b + block_of<OPERAND>(i)][half_of<OPERAND>(i)] = pieces[i];
    }
}

struct InOrder {  // block b is lines 8 b + g
    static constexpr int RUN = 2;  // a lane's columns of out come in runs of so many neighbours
    static __device__ int line_of(int b, int g) { return 8 * b + g; }
    static __device__ Held held(int run, int i) { return {run, i}; }  // number i of a run
};

struct FourByFour {  // blocks 4 q to 4 q + 3 are lines 32 q + 4 g, and the three after each
    static constexpr int RUN = 4;
    static __device__ int line_of(int b, int g) { return b / 4 * 32 + 4 * g + b % 4; }
    static __device__ Held held(int run, int i) { return {run / 2 * 4 + i, run % 2}; }
};

// ---- where neighbours in d are neighbours in memory -----------------------------------------------------------------
template <int LINES> struct DepthTile : InOrder {
    static constexpr int STEP = THREADS / (DEPTH / COPY), COPIES = LINES / STEP;
    Number at[LINES][DEPTH + COPY];
    static __device__ int line(int thread) { return thread / (DEPTH / COPY); }
    static __device__ int depth(int thread) { return thread % (DEPTH / COPY) * COPY; }
    __device__ Number* copied(int u) { return &at[line(threadIdx.x) + STEP * u][depth(threadIdx.x)]; }  // to where

    // Of each block, for lane (g, t): of its line g, the 4 bytes t from depth d on, and from depth d + COPY on.
    template <Operand OPERAND, int BLOCKS>
    __device__ void load(int first, int d, int lane, unsigned (&block)[BLOCKS][2]) const {
        load_blocks<OPERAND>(lane, block, [&](int b, int half, unsigned(&pieces)[4]) {
            load_pieces(&at[first + line_of(b, lane % 8)][d + half * COPY], pieces);
        });
    }

    // Of four blocks, floats: depths d to d + 3 of line g.
    __device__ void load_four(int first, int d, int g, float (&block)[4][4]) const {
#pragma unroll
        for (int b = 0; b < 4; ++b) {
            const Run<4> depths = run<4>(&at[first + line_of(b, g)][d]);
#pragma unroll
            for (int e = 0; e < 4; ++e) block[b][e] = depths.at[e];
        }
    }
};

// ---- where neighbouring lines are -----------------------------------------------------------------------------------
#if BITS == 16
typedef InOrder LineOrder;
#else
typedef FourByFour LineOrder;
#endif

template <int LINES> struct LineTile : LineOrder {
    static constexpr int STEP = THREADS / (LINES / COPY), COPIES = DEPTH / STEP;
    Number at[DEPTH][LINES + 8];
    static __device__ int line(int thread) { return thread % (LINES / COPY) * COPY; }
    static __device__ int depth(int thread) { return thread / (LINES / COPY); }
    __device__ Number* copied(int u) { return &at[depth(threadIdx.x) + STEP * u][line(threadIdx.x)]; }

    // As that of a DepthTile.
    template <Operand OPERAND, int BLOCKS>
    __device__ void load(int first, int d, int lane, unsigned (&block)[BLOCKS][2]) const {
#if BITS == 16
        load_blocks<OPERAND>(lane, block, [&](int b, int half, unsigned(&pieces)[4]) {
            load_pieces_transposed(&at[d + half * COPY + lane % 8][first + line_of(b, 0)], pieces);
        });
#else
        const int g = lane / 4, t = lane % 4;
#pragma unroll
        for (int b = 0; b < BLOCKS; b += 4) {
#pragma unroll
            for (int half = 0; half < 2; ++half) {
                const Run<4> lines = run<4>(&at[d + t + 4 * half][first + line_of(b, g)]);
#pragma unroll
                for (int i = 0; i < 4; ++i) block[b + i][half] = __float_as_uint(lines.at[i]);
            }
        }
#endif
    }

    // As that of a DepthTile.
    __device__ void load_four(int first, int d, int g, float (&block)[4][4]) const {
#pragma unroll
        for (int e = 0; e < 4; ++e) {
            const Run<4> lines = run<4>(&at[d + e][first + line_of(0, g)]);
#pragma unroll
            for (int i = 0; i < 4; ++i) block[i][e] = lines.at[i];
        }
    }
};

template <class A, class B> struct Stage {
    A a;
    B b;
};
