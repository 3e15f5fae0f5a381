// batch_norm.cu: y = scale (x - mean) / sqrt(variance + eps) + shift, for each channel      (minigan/ops/batch_norm.py)
//
// Shapes  x, y, gx, gy (M,C), where M counts every axis but the last; mean, variance, scale, shift,
//         gscale and gshift (C,); float32, C-contiguous
//
// Two kinds of kernel: those that sum down the columns of x, a block for 32 channels, and a thread an element.

#include "columns.cuh"

// ---- batch_norm_statistics ------------------------------------------------------------------------------------------
// mean = sum x / M, variance = sum (x - mean)^2 / M: two passes, for E[x^2] - E[x]^2 would cancel.
// Launch  grid (tiles of C), block (CHANNELS, ROWS)
// Sums    thread (c, t) adds rows t, t + ROWS, ... in this order; then the tree.
extern "C" __global__ void __launch_bounds__(1024) batch_norm_statistics(
    const float* __restrict__ x,   // (M,C)
    float* __restrict__ mean,      // (C,)
    float* __restrict__ variance,  // (C,)
    int M, int C) {
    const int c = blockIdx.x * CHANNELS + threadIdx.x;
    const int rows = c < C ? M : 0;  // a thread beyond the last channel sums nothing but meets every barrier

    float sum = 0.0f;
    for (int m = threadIdx.y; m < rows; m += ROWS) sum += x[(long long)m * C + c];
    const float centre = sum_over_rows(sum) / M;

    float squares = 0.0f;
    for (int m = threadIdx.y; m < rows; m += ROWS) {
        const float distance = x[(long long)m * C + c] - centre;
        squares += distance * distance;
    }
    squares = sum_over_rows(squares);

    if (threadIdx.y == 0 && c < C) {
        mean[c] = centre;
        variance[c] = squares / M;
    }
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
// gscale = sum gy xhat, gshift = sum gy, over the rows, with xhat = (x - mean) / sqrt(variance + eps).
// Launch  grid (tiles of C), block (CHANNELS, ROWS)
// Sums    as batch_norm_statistics
extern "C" __global__ void __launch_bounds__(1024) batch_norm_grad_sums(
    const float* __restrict__ gy,        // (M,C)
    const float* __restrict__ x,         // (M,C)
    const float* __restrict__ mean,      // (C,)
    const float* __restrict__ variance,  // (C,)
    float* __restrict__ gscale,          // (C,)
    float* __restrict__ gshift,          // (C,)
    int M, int C, float eps) {
    const int c = blockIdx.x * CHANNELS + threadIdx.x;
    const int rows = c < C ? M : 0;  // as above
    const float centre = c < C ? mean[c] : 0.0f;

    float products = 0.0f, sum = 0.0f;
    for (int m = threadIdx.y; m < rows; m += ROWS) {
        const long long e = (long long)m * C + c;
        products += gy[e] * (x[e] - centre);
        sum += gy[e];
    }
    products = sum_over_rows(products);
    sum = sum_over_rows(sum);

    if (threadIdx.y == 0 && c < C) {
        gscale[c] = products / sqrtf(variance[c] + eps);  // xhat's denominator is the column's: it waits for the end
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
