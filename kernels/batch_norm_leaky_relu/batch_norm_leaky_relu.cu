// batch_norm_leaky_relu.cu: y = n where n > 0, else slope n, where n = scale (x - mean) / sqrt(variance + eps) + shift
//                                                                             (minigan/ops/batch_norm_leaky_relu.py)
// Shapes  x, y, gx, gy (M,C), where M counts every axis but the last; mean, variance, scale, shift,
//         gscale and gshift (C,); float32, C-contiguous
//
// n is never stored: whoever needs its sign computes it from x, always by `normalised`. mean and variance are those of
// batch_norm.cu, whose other kernels these are, but for the rectifier.

#include "../batch_norm/columns.cuh"

// The gradient at n.
__device__ float gradient_at_n(float gy, float n, float slope) { return n > 0.0f ? gy : slope * gy; }

// ---- batch_norm_leaky_relu ------------------------------------------------------------------------------------------
// Launch  a thread an element: grid (size / 256), block (256)
extern "C" __global__ void batch_norm_leaky_relu(
    const float* __restrict__ x,         // (M,C)
    const float* __restrict__ scale,     // (C,)
    const float* __restrict__ shift,     // (C,)
    const float* __restrict__ mean,      // (C,)
    const float* __restrict__ variance,  // (C,)
    float* __restrict__ y,               // (M,C)
    int size, int C, float eps, float slope) {
    const int e = blockIdx.x * blockDim.x + threadIdx.x, c = e % C;
    if (e < size) {
        const float n = normalised(x[e], scale[c], shift[c], mean[c], variance[c], eps);
        y[e] = n > 0.0f ? n : slope * n;
    }
}

// ---- batch_norm_leaky_relu_grad_sums --------------------------------------------------------------------------------
// sum gn (x - mean) and sum gn over the rows of each chunk; batch_norm_grad_totals in batch_norm.cu adds them up.
// Launch  grid (tiles of C, chunks), block (CHANNELS, ROWS)
// Sums    thread (c, t) adds rows t, t + ROWS, ... of the chunk in this order; then the tree.
extern "C" __global__ void __launch_bounds__(1024) batch_norm_leaky_relu_grad_sums(
    const float* __restrict__ gy,        // (M,C)
    const float* __restrict__ x,         // (M,C)
    const float* __restrict__ scale,     // (C,)
    const float* __restrict__ shift,     // (C,)
    const float* __restrict__ mean,      // (C,)
    const float* __restrict__ variance,  // (C,)
    float* __restrict__ products,        // (chunks,C)
    float* __restrict__ sums,            // (chunks,C)
    int M, int C, int step, float eps, float slope) {
    const int c = blockIdx.x * CHANNELS + threadIdx.x, first = blockIdx.y * step;
    const int end = c < C ? min(first + step, M) : 0;  // beyond the last channel, nothing but barriers

    float product = 0.0f, sum = 0.0f;
    for (int m = first + threadIdx.y; m < end; m += ROWS) {
        const long long e = (long long)m * C + c;
        const float n = normalised(x[e], scale[c], shift[c], mean[c], variance[c], eps);
        const float gn = gradient_at_n(gy[e], n, slope);
        product += gn * (x[e] - mean[c]);
        sum += gn;
    }
    product = sum_over_rows(product);
    sum = sum_over_rows(sum);

    // All threads know both sums, so one warp stores each.
    if (threadIdx.y == 0 && c < C) sums[(long long)blockIdx.y * C + c] = sum;
    if (threadIdx.y == 1 && c < C) products[(long long)blockIdx.y * C + c] = product;
}

// ---- batch_norm_leaky_relu_grad -------------------------------------------------------------------------------------
// gx = scale / sqrt(variance + eps) (gn - gshift / M - xhat gscale / M).
// Launch  a thread an element: grid (size / 256), block (256)
extern "C" __global__ void batch_norm_leaky_relu_grad(
    const float* __restrict__ gy,        // (M,C)
    const float* __restrict__ x,         // (M,C)
    const float* __restrict__ scale,     // (C,)
    const float* __restrict__ shift,     // (C,)
    const float* __restrict__ mean,      // (C,)
    const float* __restrict__ variance,  // (C,)
    const float* __restrict__ gscale,    // (C,)
    const float* __restrict__ gshift,    // (C,)
    float* __restrict__ gx,              // (M,C)
    int size, int M, int C, float eps, float slope) {
    const int e = blockIdx.x * blockDim.x + threadIdx.x, c = e % C;
    if (e < size) {
        const float n = normalised(x[e], scale[c], shift[c], mean[c], variance[c], eps);
        const float gn = gradient_at_n(gy[e], n, slope);
        const float deviation = sqrtf(variance[c] + eps);
        const float xhat = (x[e] - mean[c]) / deviation;
        gx[e] = scale[c] / deviation * (gn - gshift[c] / M - xhat * gscale[c] / M);
    }
}
