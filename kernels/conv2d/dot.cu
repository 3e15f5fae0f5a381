// dot.cu: conv2d, y = dT/dy, for few filters: one logit      (minigan/ops/conv2d.py)
//
// Shapes  x (N,H,W,C)  w (K,R,S,C)  y (N,P,Q,K); float32, C-contiguous
//         compile-time constants: K; BLOCK (dot.py)
//
// The idea over conv2d.cu: there a tile of y is 64 filters wide, and one filter leaves 63 of its columns empty; its long sums
// fall into parts, which another kernel adds up. Here a block makes one window's dot products with all K filters, and its
// threads share the sums, since nothing else is there to share. Gained over conv2d.cu: not measured yet.
//
// Block   BLOCK = 256 threads have a window: one (n, p, q)
// Launch  grid (N P Q), block (BLOCK)
// Loads   neighbouring threads take neighbouring numbers of a row of the window, S C of which lie side by side in x and in w
// Shared  partial (K, BLOCK), 1,024 K bytes: neighbouring threads read neighbouring floats, no bank conflict
// Sums    thread t adds numbers t, t + BLOCK, ... of the window in this order; then a tree: the lower half of the threads
//         takes the upper half's sums, and so on.

constexpr int AHEAD = 8;  // numbers of the window that a thread loads before it adds one

extern "C" __global__ void __launch_bounds__(BLOCK) conv2d(
    const float* __restrict__ x,  // (N,H,W,C)
    const float* __restrict__ w,  // (K,R,S,C), that is (K,length)
    float* __restrict__ y,        // (N,P,Q,K)
    int H, int W, int C, int P, int Q, int R, int S, int stride, int padding) {
    __shared__ float partial[K][BLOCK];
    const int n = blockIdx.x / Q / P, p = blockIdx.x / Q % P, q = blockIdx.x % Q, thread = threadIdx.x;
    const int width = S * C, length = R * width, line = W * C;  // of a row of the window, of all of it, of a row of x
    const int top = p * stride - padding, left = (q * stride - padding) * C;
    const float* const picture = x + (long long)n * H * line;

    float sum[K] = {};
#pragma unroll AHEAD
    for (int d = thread; d < length; d += BLOCK) {
        const int r = d / width, i = top + r, e = left + d - r * width;
        const float number = 0 <= i && i < H && 0 <= e && e < line ? picture[(long long)i * line + e] : 0.0f;
#pragma unroll
        for (int k = 0; k < K; ++k) sum[k] += number * w[k * length + d];
    }

#pragma unroll
    for (int k = 0; k < K; ++k) partial[k][thread] = sum[k];
    __syncthreads();
    for (int half = BLOCK / 2; half > 0; half /= 2) {
        if (thread < half) {
#pragma unroll
            for (int k = 0; k < K; ++k) partial[k][thread] += partial[k][thread + half];
        }
        __syncthreads();
    }
    if (thread < K) y[(long long)blockIdx.x * K + thread] = partial[thread][0];
}
