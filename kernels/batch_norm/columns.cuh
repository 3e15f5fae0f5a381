// columns.cuh: what batch_norm.cu shares with ../batch_norm_leaky_relu: x (M,C), a column a channel, before a block
//
// Block   (CHANNELS, ROWS): a warp lies across 32 neighbouring channels, so each of its loads is 128 contiguous bytes, and
//         32 warps go down the rows. A thread keeps to its column: what belongs to the channel is computed once.
//         Where the sums of chunks are added up, which are few rows, DOWN (cuda.py): 8 channels, and 128 threads down each.
// Launch  grid (chunks of rows, tiles of C). A tile of 32 channels would keep one multiprocessor of many at work: so its
//         rows are cut into chunks, each with a block of its own. What chunks sum is added up in the next launch, in a
//         fixed order.

#include "../batch_norm/equation.cuh"

constexpr int CHANNELS = 32, ROWS = 32;
constexpr int EACH = 4;  // rows of a thread that makes every element by itself, all loaded before one is stored

__device__ int channel() { return blockIdx.y * CHANNELS + threadIdx.x; }

// Rows first, first + ROWS, ... of channel c; 0 from row `end` on. All are loaded before one is used.
template <int COUNT>
__device__ void load_rows(
    float (&mine)[COUNT], const float* __restrict__ x /* (M,C) */, int first, int end, int c, int C) {
    const float* at = x + (long long)first * C + c;
#pragma unroll
    for (int i = 0; i < COUNT; ++i) {
        mine[i] = first + i * ROWS < end ? *at : 0.0f;
        at += ROWS * C;
    }
}

// The sum of `value` over the block's rows, one for each of its channels, given to all threads.
// Shared  partial, 4096 bytes, of 1024 threads: neighbouring threads read and write neighbouring floats: no bank conflict
// Sums    a tree: the upper half of the rows is added to the lower half, then of these the upper to the lower, ...
__device__ float sum_over_rows(float value) {
    __shared__ float partial[1024];
    const int mine = threadIdx.y * blockDim.x + threadIdx.x;
    partial[mine] = value;
    __syncthreads();
    for (int half = blockDim.y / 2; half > 0; half /= 2) {
        if (threadIdx.y < half) partial[mine] += partial[mine + half * blockDim.x];
        __syncthreads();
    }
    const float total = partial[threadIdx.x];
    __syncthreads();  // `partial` may be used again
    return total;
}

// ---- every element by itself ----------------------------------------------------------------------------------------
// y = after(n) with n = gain (x - mean) + shift, for this thread's EACH rows.
template <class After>
__device__ void normalise(
    const float* __restrict__ x,         // (M,C)
    const float* __restrict__ scale,     // (C,)
    const float* __restrict__ shift,     // (C,)
    const float* __restrict__ mean,      // (C,)
    const float* __restrict__ variance,  // (C,)
    float* __restrict__ y,               // (M,C)
    int M, int C, float eps, After after) {
    const int c = channel(), first = blockIdx.x * EACH * ROWS + threadIdx.y;
    if (c >= C) return;
    const Column column = column_of(c, scale, shift, mean, variance, eps);
    float mine[EACH];
    load_rows(mine, x, first, M, c, C);
    float* to = y + (long long)first * C + c;
#pragma unroll
    for (int i = 0; i < EACH; ++i) {
        if (first + i * ROWS < M) *to = after(normalised(mine[i], column));
        to += ROWS * C;
    }
}

// ---- the gradient ---------------------------------------------------------------------------------------------------
// gn(gy, x) is the gradient at n.
//
// sum gn (x - mean) and sum gn over the rows of each chunk.
// Sums    thread (c, t) adds rows t, t + ROWS, ... of the chunk in this order; then the tree.
constexpr int AHEAD = 8;  // rows of which a thread loads both numbers before it adds them

template <class AtN>
__device__ void sum_gradients(
    const float* __restrict__ gy,    // (M,C)
    const float* __restrict__ x,     // (M,C)
    const float* __restrict__ mean,  // (C,)
    float* __restrict__ products,    // (chunks,C)
    float* __restrict__ sums,        // (chunks,C)
    int M, int C, int step, AtN gn) {
    const int c = channel(), first = blockIdx.x * step;
    const int end = c < C ? min(first + step, M) : 0;  // beyond the last channel, nothing but barriers
    const float centre = c < C ? mean[c] : 0.0f;

    float product = 0.0f, sum = 0.0f;
    for (int m = first + threadIdx.y; m < end; m += AHEAD * ROWS) {
        float arriving[AHEAD], value[AHEAD];
        load_rows(arriving, gy, m, end, c, C);
        load_rows(value, x, m, end, c, C);
#pragma unroll
        for (int i = 0; i < AHEAD; ++i) {
            const float g = gn(arriving[i], value[i]);
            product += g * (value[i] - centre);
            sum += g;
        }
    }
    product = sum_over_rows(product);
    sum = sum_over_rows(sum);

    // All threads know both sums, so one warp stores each.
    if (threadIdx.y == 0 && c < C) sums[(long long)blockIdx.x * C + c] = sum;
    if (threadIdx.y == 1 && c < C) products[(long long)blockIdx.x * C + c] = product;
}

// gx = gain (gn - gshift / M - xhat gscale / M): what reaches x directly, through the mean, and through the variance.
template <class AtN>
__device__ void gradient(
    const float* __restrict__ gy,        // (M,C)
    const float* __restrict__ x,         // (M,C)
    const float* __restrict__ scale,     // (C,)
    const float* __restrict__ mean,      // (C,)
    const float* __restrict__ variance,  // (C,)
    const float* __restrict__ gscale,    // (C,)
    const float* __restrict__ gshift,    // (C,)
    float* __restrict__ gx,              // (M,C)
    int M, int C, float eps, AtN gn) {
    const int c = channel(), first = blockIdx.x * EACH * ROWS + threadIdx.y;
    if (c >= C) return;
    const float inverse = inverse_deviation(variance[c], eps), gain = scale[c] * inverse, centre = mean[c];
    const float through_mean = gshift[c] / M, through_variance = inverse * gscale[c] / M;
    float arriving[EACH], value[EACH];
    load_rows(arriving, gy, first, M, c, C);
    load_rows(value, x, first, M, c, C);
    float* to = gx + (long long)first * C + c;
#pragma unroll
    for (int i = 0; i < EACH; ++i) {
        const float g = gn(arriving[i], value[i]) - through_mean - (value[i] - centre) * through_variance;
        if (first + i * ROWS < M) *to = gain * g;
        to += ROWS * C;
    }
}
