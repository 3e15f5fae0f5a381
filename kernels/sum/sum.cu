// sum.cu: y[a, c] = sum over b of x[a, b, c], and the broadcast back      (minigan/ops/sum.py)
//
// Shapes  as each kernel says; float32, C-contiguous

constexpr int BLOCK = 256;  // threads

// ---- sum ------------------------------------------------------------------------------------------------------------
// Block   (lanes, BLOCK / lanes): thread (tx, ty) has column tx of a tile of `lanes` columns and begins at b = ty.
//         lanes is the least power of two that covers C, at most 32: neighbouring threads read neighbouring floats,
//         across the columns if C is large and along b if C is 1.
// Launch  grid (A * tiles of C), block (lanes, BLOCK / lanes)
// Shared  partial (BLOCK,): 1024 bytes; neighbouring threads read neighbouring floats: no bank conflict
// Sums    thread ty adds b = ty, ty + blockDim.y, ... in this order; then a tree over ty: the lower half
//         takes the upper, and so on.
extern "C" __global__ void __launch_bounds__(256) sum(
    const float* __restrict__ x,  // (A,B,C)
    float* __restrict__ y,        // (A,C)
    int B, int C) {
    __shared__ float partial[BLOCK];
    const int tiles = (C + blockDim.x - 1) / blockDim.x;
    const int a = blockIdx.x / tiles, c = blockIdx.x % tiles * blockDim.x + threadIdx.x;
    const int rows = c < C ? B : 0;  // a thread beyond the last column sums nothing but meets every barrier
    const int thread = threadIdx.y * blockDim.x + threadIdx.x;

    float total = 0.0f;
    for (int b = threadIdx.y; b < rows; b += blockDim.y) total += x[((long long)a * B + b) * C + c];

    partial[thread] = total;
    __syncthreads();
    for (int half = blockDim.y / 2; half > 0; half /= 2) {
        if (threadIdx.y < half) partial[thread] += partial[thread + half * blockDim.x];
        __syncthreads();
    }
    if (threadIdx.y == 0 && c < C) y[(long long)a * C + c] = partial[thread];
}

// ---- broadcast_to ---------------------------------------------------------------------------------------------------
// y[n,h,w,c] = x at its strides: a step along axis h of y moves x_h elements in x, and 0 where x is stretched.
// Block   BLOCK threads, a thread an element of y: a warp stores 128 contiguous bytes
// Launch  grid (size / BLOCK, rounded up), block (BLOCK)
extern "C" __global__ void broadcast_to(
    const float* __restrict__ x,
    float* __restrict__ y,  // (N,H,W,C), `size` elements
    int size, int H, int W, int C, int x_n, int x_h, int x_w, int x_c) {
    const int e = blockIdx.x * blockDim.x + threadIdx.x;
    const int n = e / C / W / H, h = e / C / W % H, w = e / C % W, c = e % C;
    if (e < size) y[e] = x[n * x_n + h * x_h + w * x_w + c * x_c];
}
