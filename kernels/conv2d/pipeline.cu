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
// Operands   BITS of a number are multiplied: 32, float32, on the ordinary cores; 19, TF32, or 16, bf16, on the tensor
//            cores. Sums are float32. x, w and y stay float32 in memory and in shared memory, since cp.async cannot convert;
//            a number is rounded when it has come to a register. So bf16 has TF32's traffic and twice its rate of
//            multiplication: it gains where that was the limit. (Rounding on the way to shared memory would halve the
//            traffic there, but take the numbers through registers, and those are taken by the sums.)
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
// Sums       The grid's last axis splits a long sum into `parts`, for grids that would leave multiprocessors idle; each
//            writes an `out` of its own, and parts.py adds them up. Every element is summed by one warp in an order
//            that depends on the shapes, the tile and parts alone.

#include "../launch/tensor_cores.cuh"

constexpr int THREADS = 128;
constexpr int WARP_ROWS = TILE_ROWS / 2, WARP_COLUMNS = TILE_COLUMNS / 2;  // of out that a warp makes
constexpr int DOWN = WARP_ROWS / 16, ACROSS = WARP_COLUMNS / 16;           // its blocks of 16 x 16
constexpr int SLICE = BITS == 32 ? 4 : BITS == 19 ? 8 : 16;                // depths that are multiplied at once

constexpr int UNROLLED = BITS == 32 ? 1 : DEPTH / SLICE;  // a slice in float32 is long, and leaves no registers for two

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
