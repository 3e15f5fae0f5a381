// stage.cuh: the tiles of two matrices in shared memory, as they are copied there and as they are read
//
// Line       a row of out, if the matrix is a, or a column, if it is b: what a number of it is multiplied for. The other
//            index is the depth d, which is summed.
// Number     what the matrices are made of: float, or unsigned short, which holds a bf16. A copy is of 16 bytes: COPY
//            neighbours, 4 or 8. (number.cuh, which format.py writes)
// Tiles      A tile lies as its matrix lies in memory:
//              DepthTile (LINES, DEPTH)      where neighbours in d are neighbours in memory
//              LineTile  (DEPTH, LINES + 8)  where neighbouring lines are
// Copies     Thread t makes COPIES of them: it begins at (line, depth) and moves on by STEP lines, or by STEP depths.
// Reads      in eights of lines, from line `first` on: line_of(b, g) is line g of eight b. Which lines are an eight's is
//            free: it only says which rows and columns of out are whose.
// Banks      Take the 32 as 8 fours, of 16 bytes each. The 8 lanes that read or copy at once must meet all of them.
//              DepthTile: ldmatrix reads the same copy of 8 lines. In rows of 64 bytes it would lie at two places, 4 lines
//              at each: four times as slow. So in each line the copies change places, which is an exclusive or (`place`):
//                  line    0 1 | 2 3 | 4 5 | 6 7        and in rows of 128 bytes  0 1 2 3 4 5 6 7
//                  copy 0  0 4 | 1 5 | 2 6 | 3 7  (the four that it lies in)      0 1 2 3 4 5 6 7
//                  copy 1  1 5 | 0 4 | 3 7 | 2 6                                  1 0 3 2 5 4 7 6
//              Reads meet each four once, and so do copies, whose lanes write whole lines.
//              LineTile of bf16: ldmatrix reads 8 depths, rows an odd multiple of 16 bytes apart. It exchanges rows and
//              columns; numbers of 16 bits can do that.
//              LineTile of floats: a lane reads one four for four eights (FourByFour). Rows of LINES + 8 floats begin two
//              fours apart; the fours of g = 2 i and 2 i + 1 are an even and an odd one, so 8 lanes with these two and 4 t
//              take each four once.

#include "number.cuh"

template <int NUMBERS> struct alignas(4 * NUMBERS) Run {  // neighbouring floats, read or written at once
    float at[NUMBERS];
};

template <int NUMBERS> __device__ Run<NUMBERS>& run(float* first) { return *reinterpret_cast<Run<NUMBERS>*>(first); }

template <int NUMBERS> __device__ const Run<NUMBERS>& run(const float* first) {
    return *reinterpret_cast<const Run<NUMBERS>*>(first);
}

// Which number of out a lane holds, where lines of b are columns of out: column 2 t + e of eight b.
struct Held {
    int b, e;
};

// How the four pieces that are read at once are the halves of two eights: for a, both lower halves and then both upper
// ones; for b, one eight and then the other. So mma finds its operands in neighbouring registers, and none is moved.
enum Operand { A_ROWS, B_COLUMNS };

template <Operand OPERAND> __device__ int eight_of(int piece) { return OPERAND == A_ROWS ? piece % 2 : piece / 2; }
template <Operand OPERAND> __device__ int half_of(int piece) { return OPERAND == A_ROWS ? piece / 2 : piece % 2; }

// Two eights at a time: read(b, half, pieces) has the lanes of a piece read this half of eight b.
template <Operand OPERAND, int EIGHTS, class Read>
__device__ void load_eights(int lane, unsigned (&bits)[EIGHTS][2], Read read) {
    const int which = eight_of<OPERAND>(lane / 8), half = half_of<OPERAND>(lane / 8);
#pragma unroll
    for (int b = 0; b < EIGHTS; b += 2) {
        unsigned pieces[4];  // as load_pieces has them
        read(b + which, half, pieces);
#pragma unroll
        for (int i = 0; i < 4; ++i) bits[b + eight_of<OPERAND>(i)][half_of<OPERAND>(i)] = pieces[i];
    }
}

struct InOrder {  // eight b is lines 8 b + g
    static constexpr int RUN = 2;  // a lane's columns of out come in runs of so many neighbours
    static __device__ int line_of(int b, int g) { return 8 * b + g; }
    static __device__ Held held(int run, int i) { return {run, i}; }  // number i of a run
};

// Eights 4 q to 4 q + 3 are lines 32 q + 4 four(g), and the three after each:
//      line     0 1 2 3 | 4 5 6 7 | 8 .. | 12 .. | 16 .. | 20 .. | 24 .. | 28 29 30 31      a float4 of lane g feeds its line
//      eight    0 1 2 3 | 0 1 2 3 | 0 .. |  0 .. |  0 .. |  0 .. |  0 .. |  0  1  2  3      of four eights, and on the way
//      g        0 0 0 0 | 2 2 2 2 | 4 .. |  6 .. |  3 .. |  1 .. |  7 .. |  5  5  5  5      out it is a float4 of a row
// There lane t has g = 2 t, and then 2 t + 1: four lanes write 64 bytes of a row at once, all of what memory is written in.
struct FourByFour {
    static constexpr int RUN = 4;
    static __device__ int four(int g) { return g % 2 * 4 + (g / 2 ^ g % 2); }
    static __device__ int line_of(int b, int g) { return b / 4 * 32 + 4 * four(g) + b % 4; }
    static __device__ Held held(int run, int i) { return {run / 2 * 4 + i, run % 2}; }
};

// ---- where neighbours in d are neighbours in memory -----------------------------------------------------------------
template <int LINES> struct DepthTile : InOrder {
    static constexpr int LINE = DEPTH / COPY;  // copies of a line: 4, or 8
    static constexpr int STEP = THREADS / LINE, COPIES = LINES / STEP;
    Number at[LINES][DEPTH];
    static __device__ int line(int thread) { return thread / LINE; }
    static __device__ int depth(int thread) { return thread % LINE * COPY; }

    // Where in a line the copy of its depths from d on is. g: which of eight the line is.
    static __device__ int place(int g, int d) { return (d / COPY ^ g / (8 / LINE)) * COPY; }

    __device__ Number* copied(int u) {  // to where
        const int line = this->line(threadIdx.x);
        return &at[line + STEP * u][place(line % 8, depth(threadIdx.x))];
    }

    // Of each eight, for lane (g, t): of its line g, the 4 bytes t from depth d on, and from depth d + COPY on.
    template <Operand OPERAND, int EIGHTS>
    __device__ void load(int first, int d, int lane, unsigned (&bits)[EIGHTS][2]) const {
        load_eights<OPERAND>(lane, bits, [&](int b, int half, unsigned(&pieces)[4]) {
            load_pieces(&at[first + line_of(b, lane % 8)][place(lane % 8, d + half * COPY)], pieces);
        });
    }

    // Of four eights, floats: depths d to d + 3 of line g.
    __device__ void load_four(int first, int d, int g, float (&numbers)[4][4]) const {
#pragma unroll
        for (int b = 0; b < 4; ++b) {
            const Run<4> depths = run<4>(&at[first + line_of(b, g)][place(g, d)]);
#pragma unroll
            for (int e = 0; e < 4; ++e) numbers[b][e] = depths.at[e];
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
    template <Operand OPERAND, int EIGHTS>
    __device__ void load(int first, int d, int lane, unsigned (&bits)[EIGHTS][2]) const {
#if BITS == 16
        load_eights<OPERAND>(lane, bits, [&](int b, int half, unsigned(&pieces)[4]) {
            load_pieces_transposed(&at[d + half * COPY + lane % 8][first + line_of(b, 0)], pieces);
        });
#else
        const int g = lane / 4, t = lane % 4;
#pragma unroll
        for (int b = 0; b < EIGHTS; b += 4) {
#pragma unroll
            for (int half = 0; half < 2; ++half) {
                const Run<4> lines = run<4>(&at[d + t + 4 * half][first + line_of(b, g)]);
#pragma unroll
                for (int i = 0; i < 4; ++i) bits[b + i][half] = __float_as_uint(lines.at[i]);
            }
        }
#endif
    }

    // As that of a DepthTile.
    __device__ void load_four(int first, int d, int g, float (&numbers)[4][4]) const {
#pragma unroll
        for (int e = 0; e < 4; ++e) {
            const Run<4> lines = run<4>(&at[d + e][first + line_of(0, g)]);
#pragma unroll
            for (int i = 0; i < 4; ++i) numbers[i][e] = lines.at[i];
        }
    }
};

template <class A, class B> struct Stage {
    A a;
    B b;
};
