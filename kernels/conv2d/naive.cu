// naive.cu: the three derivatives of T(x, w, y) = sum x[n,i,j,c] w[k,r,s,c] y[n,p,q,k], as they are written
//           with i = p stride + r - padding and j = q stride + s - padding; outside its picture x is 0
//
// Shapes  x (N,H,W,C)  w (K,R,S,C)  y (N,P,Q,K); float32, C-contiguous
//         Pixels and filters are counted in int, elements in 64 bits.
//
// The first rung of the ladder naive.cu, tiled.cu, conv2d.cu, pipeline.cu: a thread makes one element of the output and
// fetches both numbers of each product from memory. Two loads a multiply-add: caches and memory are all that is busy.
// And they are read badly: in conv2d neighbouring threads read numbers of w that are R S C apart, so that one load of a warp
// touches 32 lines of memory and uses 4 bytes of each.
//
// Block   256 threads, a thread an element of the output
// Sums    by one thread, in the order of the loops

// Where element (n, i, j, c) of a tensor (n, height, width, channels) is.
__device__ long long place(int n, int i, int j, int c, int height, int width, int channels) {
    return (long long)((n * height + i) * width + j) * channels + c;
}

// ---- conv2d: y = dT/dy ----------------------------------------------------------------------------------------------
// Launch  grid (N P Q, blocks of K): neighbouring threads have neighbouring k of one pixel
extern "C" __global__ void conv2d(
    const float* __restrict__ x,  // (N,H,W,C)
    const float* __restrict__ w,  // (K,R,S,C)
    float* __restrict__ y,        // (N,P,Q,K)
    int N, int H, int W, int C, int P, int Q, int K, int R, int S, int stride, int padding) {
    const int n = blockIdx.x / Q / P, p = blockIdx.x / Q % P, q = blockIdx.x % Q;
    const int k = blockIdx.y * blockDim.x + threadIdx.x;
    if (k >= K) return;

    float sum = 0.0f;
    for (int r = 0; r < R; ++r) {
        for (int s = 0; s < S; ++s) {
            const int i = p * stride + r - padding, j = q * stride + s - padding;
            if (i < 0 || i >= H || j < 0 || j >= W) continue;
            for (int c = 0; c < C; ++c) sum += x[place(n, i, j, c, H, W, C)] * w[place(k, r, s, c, R, S, C)];
        }
    }
    y[place(n, p, q, k, P, Q, K)] = sum;
}

// ---- conv2d_transpose: x = dT/dx ------------------------------------------------------------------------------------
// Of all windows (p, q) those have pixel (i, j) under their tap (r, s) for which i + padding - r = p stride.
// Launch  grid (N H W, blocks of C)
extern "C" __global__ void conv2d_transpose(
    const float* __restrict__ y,  // (N,P,Q,K)
    const float* __restrict__ w,  // (K,R,S,C)
    float* __restrict__ x,        // (N,H,W,C)
    int N, int H, int W, int C, int P, int Q, int K, int R, int S, int stride, int padding) {
    const int n = blockIdx.x / W / H, i = blockIdx.x / W % H, j = blockIdx.x % W;
    const int c = blockIdx.y * blockDim.x + threadIdx.x;
    if (c >= C) return;

    float sum = 0.0f;
    for (int r = 0; r < R; ++r) {
        for (int s = 0; s < S; ++s) {
            const int down = i + padding - r, across = j + padding - s, p = down / stride, q = across / stride;
            if (down < 0 || down % stride || p >= P || across < 0 || across % stride || q >= Q) continue;
            for (int k = 0; k < K; ++k) sum += y[place(n, p, q, k, P, Q, K)] * w[place(k, r, s, c, R, S, C)];
        }
    }
    x[place(n, i, j, c, H, W, C)] = sum;
}

// ---- conv2d_weight_grad: w = dT/dw ----------------------------------------------------------------------------------
// Launch  grid (K R S, blocks of C)
extern "C" __global__ void conv2d_weight_grad(
    const float* __restrict__ x,  // (N,H,W,C)
    const float* __restrict__ y,  // (N,P,Q,K)
    float* __restrict__ w,        // (K,R,S,C)
    int N, int H, int W, int C, int P, int Q, int K, int R, int S, int stride, int padding) {
    const int k = blockIdx.x / S / R, r = blockIdx.x / S % R, s = blockIdx.x % S;
    const int c = blockIdx.y * blockDim.x + threadIdx.x;
    if (c >= C) return;

    float sum = 0.0f;
    for (int n = 0; n < N; ++n) {
        for (int p = 0; p < P; ++p) {
            for (int q = 0; q < Q; ++q) {
                const int i = p * stride + r - padding, j = q * stride + s - padding;
                if (i < 0 || i >= H || j < 0 || j >= W) continue;
                sum += x[place(n, i, j, c, H, W, C)] * y[place(n, p, q, k, P, Q, K)];
            }
        }
    }
    w[place(k, r, s, c, R, S, C)] = sum;
}
