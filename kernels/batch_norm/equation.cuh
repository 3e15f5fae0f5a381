// equation.cuh: n = gain (x - mean) + shift with gain = scale / sqrt(variance + eps), and the leaky rectifier of n
//
// Here alone, so that it is rounded in one way whoever computes it: the sign of n is the same on the way forward and on the
// way back, and a convolution that normalises what it reads (../conv2d/normalise.cuh) reads the same numbers that
// ../batch_norm_leaky_relu would have stored.

// What the equation takes of a channel.
struct Column {
    float mean, gain, shift;
};

__device__ float inverse_deviation(float variance, float eps) { return 1.0f / sqrtf(variance + eps); }

__device__ Column column_of(
    int c,
    const float* __restrict__ scale,     // (C,)
    const float* __restrict__ shift,     // (C,)
    const float* __restrict__ mean,      // (C,)
    const float* __restrict__ variance,  // (C,)
    float eps) {
    return {mean[c], scale[c] * inverse_deviation(variance[c], eps), shift[c]};
}

__device__ float normalised(float x, Column column) { return fmaf(column.gain, x - column.mean, column.shift); }

// n where it is positive, slope n elsewhere: the greater of the two, since 0 <= slope <= 1.
__device__ float rectified(float n, float slope) { return fmaxf(n, slope * n); }
