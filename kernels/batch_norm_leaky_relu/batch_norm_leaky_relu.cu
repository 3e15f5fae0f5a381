// batch_norm_leaky_relu.cu: y = n where n > 0, else slope n, where n = scale (x - mean) / sqrt(variance + eps) + shift
//                                                                             (minigan/ops/batch_norm_leaky_relu.py)
// Shapes  x, y, gx, gy (M,C), where M counts every axis but the last; mean, variance, scale, shift,
//         gscale and gshift (C,); float32, C-contiguous
//
// n is never stored: whoever needs its sign computes it from x, always by `normalised`. mean and variance are those of
// batch_norm.cu, whose other kernels these are, but for the rectifier.

#include "../batch_norm/columns.cuh"

// The gradient at n, of what arrives at y.
struct AtN {
    Column column;
    float slope;
    __device__ float operator()(float gy, float x) const { return normalised(x, column) > 0.0f ? gy : slope * gy; }
};

// Of this thread's channel; beyond the last one, nothing of it is used.
__device__ AtN at_n(
    const float* __restrict__ scale,     // (C,)
    const float* __restrict__ shift,     // (C,)
    const float* __restrict__ mean,      // (C,)
    const float* __restrict__ variance,  // (C,)
    int C, float eps, float slope) {
    return {column_of(min(channel(), C - 1), scale, shift, mean, variance, eps), slope};
}

// ---- batch_norm_leaky_relu_inference --------------------------------------------------------------------------------
// With a mean and a variance that are given; batch_norm_leaky_relu gives it those of the batch.
// Launch  grid (chunks of EACH ROWS rows, tiles of C), block (CHANNELS, ROWS)
extern "C" __global__ void __launch_bounds__(1024) batch_norm_leaky_relu_inference(
    const float* __restrict__ x,         // (M,C)
    const float* __restrict__ scale,     // (C,)
    const float* __restrict__ shift,     // (C,)
    const float* __restrict__ mean,      // (C,)
    const float* __restrict__ variance,  // (C,)
    float* __restrict__ y,               // (M,C)
    int M, int C, float eps, float slope) {
    normalise(x, scale, shift, mean, variance, y, M, C, eps, [slope](float n) { return rectified(n, slope); });
}

// ---- batch_norm_leaky_relu_grad_sums --------------------------------------------------------------------------------
// sum gn (x - mean) and sum gn over the rows of each chunk; batch_norm_grad_totals in batch_norm.cu adds them up.
// Launch  grid (chunks, tiles of C), block (CHANNELS, ROWS)
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
    sum_gradients(gy, x, mean, products, sums, M, C, step, at_n(scale, shift, mean, variance, C, eps, slope));
}

// ---- batch_norm_leaky_relu_grad -------------------------------------------------------------------------------------
// Launch  as batch_norm_leaky_relu_inference
extern "C" __global__ void __launch_bounds__(1024) batch_norm_leaky_relu_grad(
    const float* __restrict__ gy,        // (M,C)
    const float* __restrict__ x,         // (M,C)
    const float* __restrict__ scale,     // (C,)
    const float* __restrict__ shift,     // (C,)
    const float* __restrict__ mean,      // (C,)
    const float* __restrict__ variance,  // (C,)
    const float* __restrict__ gscale,    // (C,)
    const float* __restrict__ gshift,    // (C,)
    float* __restrict__ gx,              // (M,C)
    int M, int C, float eps, float slope) {
    const AtN gn = at_n(scale, shift, mean, variance, C, eps, slope);
    gradient(gy, x, scale, mean, variance, gscale, gshift, gx, M, C, eps, gn);
}
