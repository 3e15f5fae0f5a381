// batch_norm.cu: y = scale (x - mean) / sqrt(variance + eps) + shift, for each channel      (minigan/ops/batch_norm.py)
//
// Shapes  x, y, gx, gy (M,C), where M counts every axis but the last; mean, variance, scale, shift,
//         gscale and gshift (C,); float32, C-contiguous
//
// Three kinds of kernel: those that sum down the columns of x, a block for 32 channels of a chunk of `step` rows; those
// that add up what the chunks have summed, a block for 32 channels; and a thread an element.

#include "columns.cuh"

// ---- batch_norm_sums ------------------------------------------------------------------------------------------------
// sum x over the rows of each chunk.
// Launch  grid (tiles of C, chunks), block (CHANNELS, ROWS)
// Sums    thread (c, t) adds rows t, t + ROWS, ... of the chunk in this order; then the tree.
extern "C" __global__ void __launch_bounds__(1024) batch_norm_sums(
    const float* __restrict__ x,  // (M,C)
    float* __restrict__ sums,     // (chunks,C)
    int M, int C, int step) {
    const int c = blockIdx.x * CHANNELS + threadIdx.x, first = blockIdx.y * step;
    const int end = c < C ? min(first + step, M) : 0;  // beyond the last channel, nothing but barriers

    float sum = 0.0f;
    for (int m = first + threadIdx.y; m < end; m += ROWS) sum += x[(long long)m * C + c];
    sum = sum_over_rows(sum);

    if (threadIdx.y == 0 && c < C) sums[(long long)blockIdx.y * C + c] = sum;
}

// ---- batch_norm_squares ---------------------------------------------------------------------------------------------
// sum (x - mean)^2 over the rows of each chunk, mean = sum x / M: a second pass, for E[x^2] - E[x]^2 would cancel.
// Launch, sums  as batch_norm_sums
extern "C" __global__ void __launch_bounds__(1024) batch_norm_squares(
    const float* __restrict__ x,     // (M,C)
    const float* __restrict__ sums,  // (chunks,C)
    float* __restrict__ mean,        // (C,)
    float* __restrict__ squares,     // (chunks,C)
    int M, int C, int step) {
    const int c = blockIdx.x * CHANNELS + threadIdx.x, first = blockIdx.y * step;
    const int end = c < C ? min(first + step, M) : 0;  // as above
    const float centre = sum_over_chunks(sums, gridDim.y, c, C) / M;  // every block's own, and all alike

    float sum = 0.0f;
    for (int m = first + threadIdx.y; m < end; m += ROWS) {
        const float distance = x[(long long)m * C + c] - centre;
        sum += distance * distance;
    }
    sum = sum_over_rows(sum);

    if (threadIdx.y == 0 && c < C) squares[(long long)blockIdx.y * C + c] = sum;
    if (threadIdx.y == 0 && c < C && blockIdx.y == 0) mean[c] = centre;
}

// ---- batch_norm_variance --------------------------------------------------------------------------------------------
// Launch  grid (tiles of C), block (CHANNELS, ROWS)
extern "C" __global__ void __launch_bounds__(1024) batch_norm_variance(
    const float* __restrict__ squares,  // (chunks,C)
    float* __restrict__ variance,       // (C,)
    int M, int C, int chunks) {
    const int c = blockIdx.x * CHANNELS + threadIdx.x;
    const float sum = sum_over_chunks(squares, chunks, c, C);
    if (threadIdx.y == 0 && c < C) variance[c] = sum / M;
}

// ---- batch_norm_inference -------------------------------------------------------------------------------------------
// The equation at the top, with a mean and a variance that are given; batch_norm gives it those of the batch.
// Launch  a thread an element: grid (size / 256), block (256)
extern "C" __global__ void batch_norm_inference(
    const float* __restrict__ x,         // (M,C)
    const float* __restrict__ scale,     // (C,)
    const float* __restrict__ shift,     // (C,)
    const float* __restrict__ mean,      // (C,)
    const float* __restrict__ variance,  // (C,)
    float* __restrict__ y,               // (M,C)
    int size, int C, float eps) {
    const int e = blockIdx.x * blockDim.x + threadIdx.x, c = e % C;
    if (e < size) y[e] = normalised(x[e], scale[c], shift[c], mean[c], variance[c], eps);
}

// ---- batch_norm_grad_sums -------------------------------------------------------------------------------------------
// sum gy (x - mean) and sum gy over the rows of each chunk.
// Launch, sums  as batch_norm_sums
extern "C" __global__ void __launch_bounds__(1024) batch_norm_grad_sums(
    const float* __restrict__ gy,        // (M,C)
    const float* __restrict__ x,         // (M,C)
    const float* __restrict__ mean,      // (C,)
    float* __restrict__ products,        // (chunks,C)
    float* __restrict__ sums,            // (chunks,C)
    int M, int C, int step) {
    const int c = blockIdx.x * CHANNELS + threadIdx.x, first = blockIdx.y * step;
    const int end = c < C ? min(first + step, M) : 0;  // as above
    const float centre = c < C ? mean[c] : 0.0f;

    float product = 0.0f, sum = 0.0f;
    for (int m = first + threadIdx.y; m < end; m += ROWS) {
        const long long e = (long long)m * C + c;
        product += gy[e] * (x[e] - centre);
        sum += gy[e];
    }
    product = sum_over_rows(product);
    sum = sum_over_rows(sum);

    if (threadIdx.y == 0 && c < C) {
        products[(long long)blockIdx.y * C + c] = product;
        sums[(long long)blockIdx.y * C + c] = sum;
    }
}

// ---- batch_norm_grad_totals -----------------------------------------------------------------------------------------
// gscale = sum gy xhat, gshift = sum gy, over all rows, with xhat = (x - mean) / sqrt(variance + eps).
// Launch  grid (tiles of C), block (CHANNELS, ROWS)
extern "C" __global__ void __launch_bounds__(1024) batch_norm_grad_totals(
    const float* __restrict__ products,  // (chunks,C)
    const float* __restrict__ sums,      // (chunks,C)
    const float* __restrict__ variance,  // (C,)
    float* __restrict__ gscale,          // (C,)
    float* __restrict__ gshift,          // (C,)
    int C, int chunks, float eps) {
    const int c = blockIdx.x * CHANNELS + threadIdx.x;
    const float product = sum_over_chunks(products, chunks, c, C);
    const float sum = sum_over_chunks(sums, chunks, c, C);
    if (threadIdx.y == 0 && c < C) {
        gscale[c] = product / sqrtf(variance[c] + eps);  // xhat's denominator is the column's: it waited until now
        gshift[c] = sum;
    }
}

// ---- batch_norm_grad ------------------------------------------------------------------------------------------------
// gx = scale / sqrt(variance + eps) (gy - gshift / M - xhat gscale / M): what reaches x directly, through the mean, and
// through the variance.
// Launch  a thread an element: grid (size / 256), block (256)
extern "C" __global__ void batch_norm_grad(
    const float* __restrict__ gy,        // (M,C)
    const float* __restrict__ x,         // (M,C)
    const float* __restrict__ scale,     // (C,)
    const float* __restrict__ mean,      // (C,)
    const float* __restrict__ variance,  // (C,)
    const float* __restrict__ gscale,    // (C,)
    const float* __restrict__ gshift,    // (C,)
    float* __restrict__ gx,              // (M,C)
    int size, int M, int C, float eps) {
    const int e = blockIdx.x * blockDim.x + threadIdx.x, c = e % C;
    if (e < size) {
        const float deviation = sqrtf(variance[c] + eps);
        const float xhat = (x[e] - mean[c]) / deviation;
        gx[e] = scale[c] / deviation * (gy[e] - gshift[c] / M - xhat * gscale[c] / M);
    }
}
