// columns.cuh: what batch_norm.cu shares with ../batch_norm_leaky_relu: sums down the columns of x (M,C), and the equation

constexpr int CHANNELS = 32;  // a warp lies across 32 neighbouring channels: each of its loads is 128 contiguous bytes
constexpr int ROWS = 32;      // and 32 warps go down the rows, ROWS apart

// A tile of 32 channels would keep one multiprocessor of many at work. So its rows are cut into chunks of `step`, each
// with a block of its own; what they sum is added up in the next launch, in a fixed order.

// The sum of `value` over the block's rows, one for each of its channels, given to all threads.
// Shared  partial (ROWS, CHANNELS): 4096 bytes; a warp reads and writes one row of it: no bank conflict.
// Sums    a tree: rows 0..15 take 16..31, then 0..7 take 8..15, ... the order is fixed.
__device__ float sum_over_rows(float value) {
    __shared__ float partial[ROWS][CHANNELS];
    partial[threadIdx.y][threadIdx.x] = value;
    __syncthreads();
    for (int half = ROWS / 2; half > 0; half /= 2) {
        if (threadIdx.y < half) partial[threadIdx.y][threadIdx.x] += partial[threadIdx.y + half][threadIdx.x];
        __syncthreads();
    }
    const float total = partial[0][threadIdx.x];
    __syncthreads();  // `partial` may be used again
    return total;
}

// The whole column's sum, given to all threads, from those of its chunks.
// Sums    thread (c, t) adds chunks t, t + ROWS, ... in this order; then the tree.
__device__ float sum_over_chunks(const float* __restrict__ sums /* (chunks,C) */, int chunks, int c, int C) {
    float sum = 0.0f;
    for (int chunk = threadIdx.y; chunk < (c < C ? chunks : 0); chunk += ROWS) sum += sums[(long long)chunk * C + c];
    return sum_over_rows(sum);
}

// The equation, for one number. No product in it is added to: no compiler can round it in two ways.
__device__ float normalised(float x, float scale, float shift, float mean, float variance, float eps) {
    return scale * (x - mean) / sqrtf(variance + eps) + shift;
}
