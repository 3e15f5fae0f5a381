// batch_norm.cu: y = scale (x - mean) / sqrt(variance + eps) + shift, for each channel      (minigan/ops/batch_norm.py)
//
// Shapes  x, y, gx, gy (M,C), where M counts every axis but the last; mean, variance, scale, shift,
//         gscale and gshift (C,); float32, C-contiguous
//
// Three kinds of kernel: those that sum down the columns of chunks of x; those that add up what the chunks have summed; and
// those that make every element by itself. columns.cuh says what a block is.

#include "columns.cuh"

// ---- batch_norm_moments ---------------------------------------------------------------------------------------------
// Of each chunk of `step` rows: sum x, and sum (x - its own mean)^2. Not sum x^2, from which the mean's square would have
// to be taken away again: that cancels. A chunk stays in the registers of its block, so x is read once.
// Launch  grid (chunks, tiles of C), block (CHANNELS, ROWS). step <= HELD ROWS
// Sums    thread (c, t) adds rows t, t + ROWS, ... of the chunk in this order; then the tree.
constexpr int HELD = 16;  // rows that a thread holds

__device__ void store_moments(
    const float (&mine)[HELD],      // this thread's rows of the chunk; 0 beyond it
    int rows, int C,                // of the chunk
    float* __restrict__ sums,       // (chunks,C)
    float* __restrict__ squares) {  // (chunks,C)
    const int c = channel();
    float sum = 0.0f, square = 0.0f;
#pragma unroll
    for (int i = 0; i < HELD; ++i) sum += mine[i];
    sum = sum_over_rows(sum);

    const float centre = sum / rows;
#pragma unroll
    for (int i = 0; i < HELD; ++i) {
        const float distance = threadIdx.y + i * ROWS < rows ? mine[i] - centre : 0.0f;
        square += distance * distance;
    }
    square = sum_over_rows(square);

    if (threadIdx.y == 0 && c < C) sums[(long long)blockIdx.x * C + c] = sum;
    if (threadIdx.y == 1 && c < C) squares[(long long)blockIdx.x * C + c] = square;
}

extern "C" __global__ void __launch_bounds__(1024) batch_norm_moments(
    const float* __restrict__ x,  // (M,C)
    float* __restrict__ sums,     // (chunks,C)
    float* __restrict__ squares,  // (chunks,C)
    int M, int C, int step) {
    const int c = channel(), first = blockIdx.x * step, end = min(first + step, M);
    float mine[HELD];
    load_rows(mine, x, first + threadIdx.y, c < C ? end : 0, c, C);
    store_moments(mine, end - first, C, sums, squares);
}

// ---- batch_norm_moments_of_parts ------------------------------------------------------------------------------------
// The same of y, which is the sum of `parts` arrays: of what a convolution has summed in parts (../conv2d/parts.py). They
// are added up in their order, and y is stored on the way.
extern "C" __global__ void __launch_bounds__(1024) batch_norm_moments_of_parts(
    const float* __restrict__ x,  // (parts,M,C)
    float* __restrict__ y,        // (M,C)
    float* __restrict__ sums,     // (chunks,C)
    float* __restrict__ squares,  // (chunks,C)
    int M, int C, int step, int parts) {
    const int c = channel(), first = blockIdx.x * step, rows = min(step, M - first);
    const int end = c < C ? rows : 0;
    const long long place = (long long)(first + threadIdx.y) * C + c;  // of this thread's first row
    float mine[HELD] = {};
    for (int part = 0; part < parts; ++part) {
        const float* from = x + (long long)part * M * C + place;
#pragma unroll
        for (int i = 0; i < HELD; ++i) {
            if (threadIdx.y + i * ROWS < end) mine[i] += *from;
            from += ROWS * C;
        }
    }
    float* to = y + place;
#pragma unroll
    for (int i = 0; i < HELD; ++i) {
        if (threadIdx.y + i * ROWS < end) *to = mine[i];
        to += ROWS * C;
    }
    store_moments(mine, rows, C, sums, squares);
}

// ---- batch_norm_statistics ------------------------------------------------------------------------------------------
// mean and variance of all M rows, from those of the chunks. A chunk's rows lie about its own mean, and this about the mean
// of all: sum (x - mean)^2 = sum over chunks of [sum (x - mean_of_chunk)^2 + rows_of_chunk (mean_of_chunk - mean)^2].
// The rows may be in `runs` equally long runs, each cut into chunks of `step` by itself, of which the last may be shorter.
// Launch  grid (tiles of C), block DOWN = (8, 128): a narrow tile, so that more threads go down the chunks
// Sums    thread (c, t) adds chunks t, t + blockDim.y, ... in this order; then the tree.
extern "C" __global__ void __launch_bounds__(1024) batch_norm_statistics(
    const float* __restrict__ sums,     // (chunks,C)
    const float* __restrict__ squares,  // (chunks,C)
    float* __restrict__ mean,           // (C,)
    float* __restrict__ variance,       // (C,)
    int M, int C, int step, int chunks, int runs) {
    const int c = blockIdx.x * blockDim.x + threadIdx.x;
    const int end = c < C ? chunks : 0;  // beyond the last channel, nothing but barriers
    const int each = chunks / runs, length = M / runs;

    float sum = 0.0f, square = 0.0f;
#pragma unroll 4
    for (int chunk = threadIdx.y; chunk < end; chunk += blockDim.y) sum += sums[(long long)chunk * C + c];
    const float centre = sum_over_rows(sum) / M;
#pragma unroll 4
    for (int chunk = threadIdx.y; chunk < end; chunk += blockDim.y) {
        const long long e = (long long)chunk * C + c;
        const int rows = min(step, length - chunk % each * step);
        const float distance = sums[e] / rows - centre;
        square += squares[e] + rows * (distance * distance);
    }
    square = sum_over_rows(square);

    if (threadIdx.y == 0 && c < C) mean[c] = centre;
    if (threadIdx.y == 1 && c < C) variance[c] = square / M;
}

// ---- batch_norm_inference -------------------------------------------------------------------------------------------
// The equation at the top, with a mean and a variance that are given; batch_norm gives it those of the batch.
// Launch  grid (chunks of EACH ROWS rows, tiles of C), block (CHANNELS, ROWS)
extern "C" __global__ void __launch_bounds__(1024) batch_norm_inference(
    const float* __restrict__ x,         // (M,C)
    const float* __restrict__ scale,     // (C,)
    const float* __restrict__ shift,     // (C,)
    const float* __restrict__ mean,      // (C,)
    const float* __restrict__ variance,  // (C,)
    float* __restrict__ y,               // (M,C)
    int M, int C, float eps) {
    normalise(x, scale, shift, mean, variance, y, M, C, eps, [](float n) { return n; });
}

// ---- batch_norm_grad_sums -------------------------------------------------------------------------------------------
// sum gy (x - mean) and sum gy over the rows of each chunk.
// Launch  grid (chunks, tiles of C), block (CHANNELS, ROWS)
extern "C" __global__ void __launch_bounds__(1024) batch_norm_grad_sums(
    const float* __restrict__ gy,    // (M,C)
    const float* __restrict__ x,     // (M,C)
    const float* __restrict__ mean,  // (C,)
    float* __restrict__ products,    // (chunks,C)
    float* __restrict__ sums,        // (chunks,C)
    int M, int C, int step) {
    sum_gradients(gy, x, mean, products, sums, M, C, step, [](float gy, float) { return gy; });
}

// ---- batch_norm_grad_totals -----------------------------------------------------------------------------------------
// gscale = sum gy xhat, gshift = sum gy, over all rows, with xhat = (x - mean) / sqrt(variance + eps).
// Launch, sums  as batch_norm_statistics
extern "C" __global__ void __launch_bounds__(1024) batch_norm_grad_totals(
    const float* __restrict__ products,  // (chunks,C)
    const float* __restrict__ sums,      // (chunks,C)
    const float* __restrict__ variance,  // (C,)
    float* __restrict__ gscale,          // (C,)
    float* __restrict__ gshift,          // (C,)
    int C, int chunks, float eps) {
    const int c = blockIdx.x * blockDim.x + threadIdx.x;
    const int end = c < C ? chunks : 0;  // as above

    float product = 0.0f, sum = 0.0f;
#pragma unroll 4
    for (int chunk = threadIdx.y; chunk < end; chunk += blockDim.y) {
        product += products[(long long)chunk * C + c];
        sum += sums[(long long)chunk * C + c];
    }
    product = sum_over_rows(product);
    sum = sum_over_rows(sum);

    if (threadIdx.y == 0 && c < C) gscale[c] = product * inverse_deviation(variance[c], eps);  // of the column: it waited
    if (threadIdx.y == 1 && c < C) gshift[c] = sum;
}

// ---- batch_norm_grad ------------------------------------------------------------------------------------------------
// Launch  as batch_norm_inference
extern "C" __global__ void __launch_bounds__(1024) batch_norm_grad(
    const float* __restrict__ gy,        // (M,C)
    const float* __restrict__ x,         // (M,C)
    const float* __restrict__ scale,     // (C,)
    const float* __restrict__ mean,      // (C,)
    const float* __restrict__ variance,  // (C,)
    const float* __restrict__ gscale,    // (C,)
    const float* __restrict__ gshift,    // (C,)
    float* __restrict__ gx,              // (M,C)
    int M, int C, float eps) {
    gradient(gy, x, scale, mean, variance, gscale, gshift, gx, M, C, eps, [](float gy, float) { return gy; });
}
