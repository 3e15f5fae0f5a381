// pipeline.cu: the three derivatives of T(x, w, y) = sum x[n,i,j,c] w[k,r,s,c] y[n,p,q,k], memory never waited for
//              with i = p stride + r - padding and j = q stride + s - padding; outside its picture x is 0
//
// Shapes  x (N,H,W,C)  w (K,R,S,C)  y (N,P,Q,K); C-contiguous, 16-byte aligned; K a multiple of 4, and so is C of a result
//         x. What is read has D and E channels in place of C and K: rounded up to whole copies of 16 bytes, and what is
//         missing is 0. So three colours are convolved as four, or as eight (operand.cu). It is of Numbers: float, or of
//         bf16 where BITS is 16; results are float32.
//         The tile and BITS are compile-time constants; the window is not, since no division by it is left in a loop: a
//         build for each tile and format serves all layers. Pixels are counted in int, elements in 64 bits.
//
// Two ideas over conv2d.cu, whose table of rows, columns and summed indices d holds here too.
// Copies under way: while one tile is multiplied, the next STAGES - 1 are on their way to shared memory (cp.async), past
// the registers, which so have room for more sums. Gained over conv2d.cu: not measured yet.
// Tensor cores: one instruction of a whole warp does 16 x 8 x 8 multiply-adds or more. Gained over float32: not measured
// yet.
//
// Order      Windows overlap: under 4 x 4 taps with stride 2 a pixel is met four times. So a sum takes DEPTH channels under all
//            taps, then the next DEPTH: a pixel that is met again is met soon, while the L1 cache still has it. A tile has
//            one tap for all threads, and its place is counted in (chunk of channels, r, s).
//            Gained over all channels under each tap: not measured yet.
// Product    a tile of out, one block's, is the product of two matrices that are only written down in shared memory:
//            product.cuh multiplies them, in either format, and says what a block is and in which order it sums.
// Normalise  A picture of floats may be taken through batch norm and the leaky rectifier on its way: normalise.cuh. (One of
//            bf16 was on its way here before, when it was rounded.)
// Sums       The grid's last axis splits a long sum into `parts`, for grids that would leave multiprocessors idle; each
//            writes an `out` of its own, and parts.cu adds them up.

#include "product.cuh"
#include "moments.cuh"
#include "normalise.cuh"
#include "phase.cuh"

// ---- where a sum is -------------------------------------------------------------------------------------------------
// A number of three digits, of which the last two have bounds: (n, p, q) below (N, P, Q), (r, s, c) below (R, S, D), or a
// tile's place in a sum, (chunk, r, s).
struct Digits {
    int first, second, third;
};

__device__ Digits digits(int number, int seconds, int thirds) {
    return {number / (seconds * thirds), number / thirds % seconds, number % thirds};
}

// a + b, as with pencil and paper: a loop that counts in digits needs no division. What is carried is known from a sign, in
// half as many instructions as from a comparison.
__device__ Digits plus(Digits a, Digits b, int seconds, int thirds) {
    a.third += b.third - thirds;
    const int less = a.third >> 31;  // -1: nothing is carried, else 0
    a.third += less & thirds;
    a.second += b.second + 1 + less - seconds;
    const int fewer = a.second >> 31;
    a.second += fewer & seconds;
    a.first += b.first + 1 + fewer;
    return a;
}

// Where pixel (n, i, j) of a tensor (n, height, width, channels) begins.
__device__ long long offset(int n, int i, int j, int height, int width, int channels) {
    return (long long)((n * height + i) * width + j) * channels;
}

// ---- a line of a tile that is a pixel: the window over a picture ------------------------------------------------------
// What does not change from tap to tap is found out once. Windows have at most 15 rows and columns.
// Example: in a picture of 32 rows with padding 1 the window at p = 0 has row -1 outside: bit 0 is 1 and bits 1 to 14 are 0.
// Tap (r, s) meets a pixel if bits r and 16 + s both are 0: one instruction a copy, and not four comparisons of numbers.
struct Window {
    const Number* at;  // what is copied next, which may lie outside the picture
    unsigned outside;  // bit r: the pixels of row r lie outside; bit 16 + s: those of column s do; bits 15 and 31 are 1
    __device__ bool meets(unsigned tap) const { return !(outside & tap); }
};

// All bits of 16 but those from first to last - 1, of the lower 15.
__device__ unsigned bits_but(int first, int last) {
    return 0xffff & ~((1u << min(max(last, 0), 15)) - 1) | (1u << min(max(first, 0), 15)) - 1;
}

// The bits of a tap: those of its row and of its column, or of none that there is, if the tap is beyond the sum.
__device__ unsigned bits_of_tap(int r, int s, bool beyond) { return beyond ? 1u << 15 : 1u << r | 1u << (16 + s); }

// Starts to copy COPY channels of the pixels that a tap meets, and moves the windows by so many numbers, to the next ones.
template <int LINES>
__device__ void copy_pixels(
    DepthTile<LINES>& tile, Window (&windows)[DepthTile<LINES>::COPIES], unsigned tap, int next) {
#pragma unroll
    for (int u = 0; u < tile.COPIES; ++u) {
        copy_async_cached(tile.copied(u), windows[u].at, windows[u].meets(tap));
        windows[u].at += next;
    }
}

// So many channels, rounded up to whole copies.
__device__ int in_copies(int channels) { return (channels + COPY - 1) / COPY * COPY; }

// ---- a picture of which something is pending, when it has landed ------------------------------------------------------
constexpr bool FLOATS = BITS != 16;

// This thread's floats of a tile are of four channels from `first` on, and of others DEPTH further on after `fewer` tiles, and
// then after every `taps`: so long it has their columns in registers. Of channels that there are not it has zeros, which
// stay.
struct Normaliser {
    float* table;  // (3,channels)
    float slope;
    int channels, first, taps, fewer;
    int left = 0;  // tiles with these
    FourColumns columns = {};
    // inside(u): whether the thread's copy u of the tile found its pixel.
    template <class Tile, class Inside> __device__ void operator()(Tile& tile, Inside inside) {
        if (!left) {
            columns = four_columns(table, channels, min(first, channels - 4));
            first += DEPTH;
            left = fewer;
            fewer = taps;
        }
        --left;
        float4 mine[Tile::COPIES];  // all are loaded before one is waited for
#pragma unroll
        for (int u = 0; u < Tile::COPIES; ++u) mine[u] = *reinterpret_cast<const float4*>(tile.copied(u));
#pragma unroll
        for (int u = 0; u < Tile::COPIES; ++u) {
            mine[u] = normalise_four(mine[u], columns, slope);
            if (inside(u)) *reinterpret_cast<float4*>(tile.copied(u)) = mine[u];
        }
    }
};

// All tiles of a sum whose a is pixels, those that these windows meet, of which `pending` is still to be done, by a thread's
// normaliser. fill returns the tap's bits.
template <class Tiles, class Windows, class Fill>
__device__ void multiply_pixels(
    Tiles* stages, int tiles, Fill fill, Sums& sum, const Windows& windows, Normaliser normaliser, int pending,
    const float* __restrict__ scale,     // (channels,)
    const float* __restrict__ shift,     // (channels,)
    const float* __restrict__ mean,      // (channels,)
    const float* __restrict__ variance,  // (channels,)
    float eps) {
    const auto begin = [&] {
        if (!FLOATS || !pending) return;
        const auto all = [](int channel) { return channel; };
        make_table(pending, normaliser.table, normaliser.channels, all, scale, shift, mean, variance, eps);
        __syncthreads();
    };
    const auto landed = [&](Tiles& stage, unsigned tap) {
        if (!FLOATS || !pending) return;
        wait_copies<STAGES - 2>();
        normaliser(stage.a, [&](int u) { return windows[u].meets(tap); });
    };
    multiply(stages, tiles, fill, sum, begin, landed);
}

// ---- conv2d: y = dT/dy ----------------------------------------------------------------------------------------------
// Launch  grid (tiles of N P Q, tiles of K, parts), block (THREADS)
// Tiles   a, b DepthTile: neighbouring d are neighbouring c of a window of x and of a filter of w. If channels are fewer
//         than a tile is deep, as colours are, it has as many neighbouring taps of a row `together` as it can.
// With `moments`, which is for sums in one part, the tiles leave those too; else sums and squares are not looked at.
// pending: x is rectified as it is read, or normalised by what comes after it (normalise.cuh); C = D then. If it is 0 nothing
// of that is looked at.
extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT) conv2d(
    const Number* __restrict__ x,        // (N,H,W,D)
    const Number* __restrict__ w,        // (K,R,S,D), that is (K, filter)
    float* __restrict__ y,               // (parts,N,P,Q,K), that is (parts, rows, K)
    float* sums,                         // (tiles of N P Q, K)
    float* squares,                      // (tiles of N P Q, K)
    const float* __restrict__ scale,     // (C,)
    const float* __restrict__ shift,     // (C,)
    const float* __restrict__ mean,      // (C,)
    const float* __restrict__ variance,  // (C,)
    int N, int H, int W, int C, int P, int Q, int K, int R, int S, int stride, int padding, int parts, int moments,
    int pending, float eps, float slope) {
    typedef DepthTile<TILE_ROWS> A;
    typedef DepthTile<TILE_COLUMNS> B;
    typedef Stage<A, B> Tiles;
    DYNAMIC_SHARED(Tiles, stages);                                   // (STAGES,)
    float* const table = reinterpret_cast<float*>(stages + STAGES);  // (3,C) if x is normalised
    const int D = in_copies(C), rows = N * P * Q, filter = R * S * D;
    const int together = max(DEPTH / D, 1), taps_s = (S + together - 1) / together;  // those that a row's tiles begin with
    const int taps = R * taps_s, depth = taps * ((D + DEPTH - 1) / DEPTH * DEPTH);
    const int row0 = blockIdx.x * TILE_ROWS, column0 = blockIdx.y * TILE_COLUMNS;
    const Part part = part_of(blockIdx.z, parts, depth);

    Digits coming = digits(part.first, R, taps_s);  // the tile that is copied next
    const int place = A::depth(threadIdx.x), next_s = together > 1 ? place / D : 0;
    const int c0 = next_s < together ? place - next_s * D : D;  // D: no tap is left for this place
    // How far what the coming tile copies is from the window's first number, where a row of pixels has `width`.
    const auto step = [&](int width) {
        return (coming.second * width + coming.third * together + next_s) * D + coming.first * DEPTH + c0;
    };
    Window windows[A::COPIES];  // on x, of this thread's lines
#pragma unroll
    for (int u = 0; u < A::COPIES; ++u) {
        const Digits out = digits(row0 + A::line(threadIdx.x) + A::STEP * u, P, Q);
        const int i = out.second * stride - padding, j = out.third * stride - padding;
        windows[u].at = x + offset(out.first, i, j, H, W, D) + step(W);
        windows[u].outside = out.first < N ? bits_but(-i, H - i) | bits_but(-j, W - j) << 16 : ~0u;
    }
    const int k = column0 + B::line(threadIdx.x);
    const Number* filters = w + (long long)k * filter + step(S);  // this thread's first

    const auto fill = [&](Tiles& stage, bool there) {
        const int c = coming.first * DEPTH + c0, s = coming.third * together + next_s;
        const bool beyond = !there || c >= D || s >= S;
        const unsigned tap = bits_of_tap(coming.second, s, beyond);
#pragma unroll
        for (int u = 0; u < B::COPIES; ++u)
            copy_async(stage.b.copied(u), filters + B::STEP * u * filter, !beyond && k + B::STEP * u < K);
        const int step_x = step(W), step_w = step(S);
        coming = plus(coming, {0, 0, 1}, R, taps_s);
        copy_pixels(stage.a, windows, tap, step(W) - step_x);
        filters += step(S) - step_w;
        return tap;
    };
    const Normaliser normaliser = {table, slope, D, coming.first * DEPTH + c0, taps, taps - part.first % taps};
    Sums sum = {};
    multiply_pixels(
        stages, part.last - part.first, fill, sum, windows, normaliser, pending, scale, shift, mean, variance, eps);

    y += (long long)blockIdx.z * rows * K;
    store_sums<A, B>(sum, row0, column0, rows, K, [&](int row) { return y + (long long)row * K; });
    if (moments) {
        const long long chunk_row = (long long)blockIdx.x * K;  // where the tile's moments begin
        store_moments<A, B>(sum, min(TILE_ROWS, rows - row0), column0, K, sums + chunk_row, squares + chunk_row);
    }
}

// ---- conv2d_transpose: x = dT/dx ------------------------------------------------------------------------------------
// A block's pixels are of one phase (phase.cuh), so that the same taps count for all.
// Launch  grid (tiles of the largest phase's pixels, tiles of C, stride^2 phases * parts), block (THREADS)
// Tiles   a DepthTile: neighbouring d are neighbouring k of y; b LineTile: c of w.
// moments  as above, of each phase's tiles; pending  as above, of y: K = E then
extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT) conv2d_transpose(
    const Number* __restrict__ y,        // (N,P,Q,E)
    const Number* __restrict__ w,        // (K,R,S,D)
    float* __restrict__ x,               // (parts,N,H,W,C)
    float* sums,                         // (phases, tiles of the largest phase's pixels, C)
    float* squares,                      // (phases, tiles of the largest phase's pixels, C)
    const float* __restrict__ scale,     // (K,)
    const float* __restrict__ shift,     // (K,)
    const float* __restrict__ mean,      // (K,)
    const float* __restrict__ variance,  // (K,)
    int N, int H, int W, int C, int P, int Q, int K, int R, int S, int stride, int padding, int parts, int moments,
    int pending, float eps, float slope) {
    typedef DepthTile<TILE_ROWS> A;
    typedef LineTile<TILE_COLUMNS> B;
    typedef Stage<A, B> Tiles;
    DYNAMIC_SHARED(Tiles, stages);                                   // (STAGES,)
    float* const table = reinterpret_cast<float*>(stages + STAGES);  // (3,K) if y is normalised
    const int phase_number = blockIdx.z / parts, part_number = blockIdx.z % parts;
    const Phase phase = phase_of(phase_number, stride, padding, H, W, R, S);
    const int D = in_copies(C), E = in_copies(K), rows = N * phase.height * phase.width;
    const int taps = phase.taps_r * phase.taps_s, depth = taps * ((E + DEPTH - 1) / DEPTH * DEPTH);
    const int row0 = blockIdx.x * TILE_ROWS, column0 = blockIdx.y * TILE_COLUMNS;
    if (row0 >= rows) return;  // the grid has the largest phase's size; all threads of a block return or none
    const Part part = part_of(part_number, parts, depth);

    // The pixel of y that tap (0, 0) of the phase's first pixel meets.
    const int p0 = (phase.i0 + padding) / stride, q0 = (phase.j0 + padding) / stride;
    Digits coming = digits(part.first, max(phase.taps_r, 1), max(phase.taps_s, 1));  // the tile that is copied next
    const auto step = [&] { return coming.first * DEPTH - (coming.second * Q + coming.third) * E; };  // taps go back
    Window windows[A::COPIES];  // on y, of this thread's lines
#pragma unroll
    for (int u = 0; u < A::COPIES; ++u) {
        const Digits out = digits(row0 + A::line(threadIdx.x) + A::STEP * u, phase.height, phase.width);
        const int p = p0 + out.second, q = q0 + out.third;
        windows[u].at = y + offset(out.first, p, q, P, Q, E) + A::depth(threadIdx.x) + step();
        windows[u].outside = out.first < N ? bits_but(p - P + 1, p + 1) | bits_but(q - Q + 1, q + 1) << 16 : ~0u;
    }
    const int c = column0 + B::line(threadIdx.x), next_b = B::STEP * R * S * D;

    const auto fill = [&](Tiles& stage, bool there) {
        const int r = phase.r0 + coming.second * stride, s = phase.s0 + coming.third * stride;
        const int k_a = coming.first * DEPTH + A::depth(threadIdx.x), k_b = coming.first * DEPTH + B::depth(threadIdx.x);
        const Number* from = w + offset(k_b, r, s, R, S, D) + c;
#pragma unroll
        for (int u = 0; u < B::COPIES; ++u)
            copy_async(stage.b.copied(u), from + u * next_b, there && k_b + B::STEP * u < K && c < D);
        const unsigned tap = bits_of_tap(coming.second, coming.third, !there || k_a >= E);
        const int step_y = step();
        coming = plus(coming, {0, 0, 1}, phase.taps_r, phase.taps_s);
        copy_pixels(stage.a, windows, tap, step() - step_y);
        return tap;
    };
    const Normaliser normaliser = {
        table, slope, E, coming.first * DEPTH + A::depth(threadIdx.x), taps, taps - part.first % max(taps, 1)};
    Sums sum = {};
    multiply_pixels(
        stages, part.last - part.first, fill, sum, windows, normaliser, pending, scale, shift, mean, variance, eps);

    x += part_number * offset(N, 0, 0, H, W, C);
    store_sums<A, B>(sum, row0, column0, rows, C, [&](int row) {
        const Digits out = digits(row, phase.height, phase.width);
        return x + offset(out.first, phase.i0 + out.second * stride, phase.j0 + out.third * stride, H, W, C);
    });
    if (moments) {
        const long long chunk_row = (long long)(phase_number * gridDim.x + blockIdx.x) * C;  // as above
        store_moments<A, B>(sum, min(TILE_ROWS, rows - row0), column0, C, sums + chunk_row, squares + chunk_row);
    }
}

// ---- conv2d_weight_grad: w = dT/dw ----------------------------------------------------------------------------------
// Launch  grid (tiles of K, tiles of R S D, parts), block (THREADS). The sum over all pixels (n, p, q) is long and w is
//         small: here parts are many.
// pending  as above, of the `picture` X or Y
// Tiles   a, b LineTile: neighbouring k of a pixel of y, neighbouring c of the pixel of x that tap (r, s) moves it to.
constexpr int X = 1;  // and Y 2 (pipeline.py)

extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT) conv2d_weight_grad(
    const Number* __restrict__ x,        // (N,H,W,D)
    const Number* __restrict__ y,        // (N,P,Q,E), that is (depth, E)
    float* __restrict__ w,               // (parts,K,R,S,C), that is (parts, K, columns) if C = D
    const float* __restrict__ scale,     // (C,) or (K,)
    const float* __restrict__ shift,     // (C,) or (K,)
    const float* __restrict__ mean,      // (C,) or (K,)
    const float* __restrict__ variance,  // (C,) or (K,)
    int N, int H, int W, int C, int P, int Q, int K, int R, int S, int stride, int padding, int parts,
    int pending, int picture, float eps, float slope) {
    typedef LineTile<TILE_ROWS> A;
    typedef LineTile<TILE_COLUMNS> B;
    typedef Stage<A, B> Tiles;
    DYNAMIC_SHARED(Tiles, stages);                                   // (STAGES,)
    float* const table = reinterpret_cast<float*>(stages + STAGES);  // (3,lines) of the picture that is normalised
    const int D = in_copies(C), E = in_copies(K), columns = R * S * D, depth = N * P * Q;
    const int row0 = blockIdx.x * TILE_ROWS, column0 = blockIdx.y * TILE_COLUMNS;
    const Part part = part_of(blockIdx.z, parts, depth);

    const int k = row0 + A::line(threadIdx.x), column = column0 + B::line(threadIdx.x);
    const Digits tap = digits(column, S, D);  // (r, s, c) of this thread's columns
    int d = part.first * DEPTH + A::depth(threadIdx.x);  // pixel of y that it copies next, of a
    const int end = k < E ? depth : 0;                   // and the one before which it stops
    const Number* y_d = y + (long long)d * E + k;
    Digits pixel = digits(part.first * DEPTH + B::depth(threadIdx.x), P, Q);  // and (n, p, q), of b
    const Digits next = digits(B::STEP, P, Q);

    const auto fill = [&](Tiles& stage, bool there) {
        const int last = there ? end : 0;
#pragma unroll
        for (int u = 0; u < A::COPIES; ++u) {
            copy_async(stage.a.copied(u), y_d, d + A::STEP * u < last);
            y_d += A::STEP * E;
        }
        d += DEPTH;
        unsigned all_inside = 0;  // bit u: copy u of x
#pragma unroll
        for (int u = 0; u < B::COPIES; ++u) {
            const int i = pixel.second * stride + tap.first - padding, j = pixel.third * stride + tap.second - padding;
            const bool inside =
                there && column < columns && pixel.first < N && (unsigned)i < (unsigned)H && (unsigned)j < (unsigned)W;
            copy_async(stage.b.copied(u), x + offset(pixel.first, i, j, H, W, D) + tap.third, inside);
            all_inside |= (unsigned)inside << u;
            pixel = plus(pixel, next, P, Q);
        }
        return all_inside;
    };
    const int lines = picture == X ? TILE_COLUMNS : TILE_ROWS, line = picture == X ? column - column0 : k - row0;
    Normaliser normaliser = {table, slope, lines, line, 0, part.last - part.first};  // a thread's channels stay the same
    const auto begin = [&] {
        const auto c = [&](int line) { return (column0 + line) % C; };
        const auto k = [&](int line) { return min(row0 + line, K - 1); };
        if (!FLOATS || !pending) return;
        if (picture == X) make_table(pending, table, TILE_COLUMNS, c, scale, shift, mean, variance, eps);
        else make_table(pending, table, TILE_ROWS, k, scale, shift, mean, variance, eps);
        __syncthreads();
    };
    const auto landed = [&](Tiles& stage, unsigned inside_x) {
        if (!FLOATS || !pending) return;
        wait_copies<STAGES - 2>();
        const int landed_d = d - (STAGES - 1) * DEPTH;  // of so many tiles copies have started since
        if (picture == X) normaliser(stage.b, [&](int u) { return inside_x >> u & 1; });
        else normaliser(stage.a, [&](int u) { return landed_d + A::STEP * u < end; });
    };
    Sums sum = {};
    multiply(stages, part.last - part.first, fill, sum, begin, landed);

    const int length = R * S * C;  // of a filter
    w += (long long)blockIdx.z * K * length;
    const auto filter = [&](int row) { return w + (long long)row * length; };
    if (C == D) {
        store_sums<A, B>(sum, row0, column0, K, columns, filter);
    } else {
        store_sums<A, B>(sum, row0, column0, K, columns, filter, [&](float* to, int column, const Run<B::RUN>& numbers) {
            const int c = column % D;
            for (int e = 0; e < min(B::RUN, C - c); ++e) to[column / D * C + c + e] = numbers.at[e];
        });
    }
}
