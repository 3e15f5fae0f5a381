// elementwise.cu: a + b, a - b, a * b, a / b with broadcasting, and x to a power      (minigan/ops/elementwise.py)
//
// Shapes  y (N,H,W,C) of `size` elements, C-contiguous; a and b are read through strides: a step along axis h of y
//         moves a_h elements in a, and 0 where a is stretched. Equal shapes come as (1,1,1,size). float32.
// Block   256 threads, a thread an element of y: a warp stores 128 contiguous bytes, and loads as many from an operand
//         that is not stretched
// Launch  grid (size / 256, rounded up), block (256)

// Where element e of y lies in an operand with strides n, h, w, c.
__device__ int position(int e, int H, int W, int C, int n, int h, int w, int c) {
    return e / C / W / H * n + e / C / W % H * h + e / C % W * w + e % C * c;
}

// ---- add ------------------------------------------------------------------------------------------------------------
extern "C" __global__ void add(
    const float* __restrict__ a, const float* __restrict__ b, float* __restrict__ y, int size, int H, int W, int C,
    int a_n, int a_h, int a_w, int a_c, int b_n, int b_h, int b_w, int b_c) {
    const int e = blockIdx.x * blockDim.x + threadIdx.x;
    if (e < size) y[e] = a[position(e, H, W, C, a_n, a_h, a_w, a_c)] + b[position(e, H, W, C, b_n, b_h, b_w, b_c)];
}

// ---- subtract -------------------------------------------------------------------------------------------------------
extern "C" __global__ void subtract(
    const float* __restrict__ a, const float* __restrict__ b, float* __restrict__ y, int size, int H, int W, int C,
    int a_n, int a_h, int a_w, int a_c, int b_n, int b_h, int b_w, int b_c) {
    const int e = blockIdx.x * blockDim.x + threadIdx.x;
    if (e < size) y[e] = a[position(e, H, W, C, a_n, a_h, a_w, a_c)] - b[position(e, H, W, C, b_n, b_h, b_w, b_c)];
}

// ---- multiply -------------------------------------------------------------------------------------------------------
extern "C" __global__ void multiply(
    const float* __restrict__ a, const float* __restrict__ b, float* __restrict__ y, int size, int H, int W, int C,
    int a_n, int a_h, int a_w, int a_c, int b_n, int b_h, int b_w, int b_c) {
    const int e = blockIdx.x * blockDim.x + threadIdx.x;
    if (e < size) y[e] = a[position(e, H, W, C, a_n, a_h, a_w, a_c)] * b[position(e, H, W, C, b_n, b_h, b_w, b_c)];
}

// ---- divide ---------------------------------------------------------------------------------------------------------
extern "C" __global__ void divide(
    const float* __restrict__ a, const float* __restrict__ b, float* __restrict__ y, int size, int H, int W, int C,
    int a_n, int a_h, int a_w, int a_c, int b_n, int b_h, int b_w, int b_c) {
    const int e = blockIdx.x * blockDim.x + threadIdx.x;
    if (e < size) y[e] = a[position(e, H, W, C, a_n, a_h, a_w, a_c)] / b[position(e, H, W, C, b_n, b_h, b_w, b_c)];
}

// ---- power ----------------------------------------------------------------------------------------------------------
extern "C" __global__ void power(
    const float* __restrict__ x,  // (size,)
    float* __restrict__ y,        // (size,)
    int size, float exponent) {
    const int e = blockIdx.x * blockDim.x + threadIdx.x;
    if (e < size) y[e] = powf(x[e], exponent);
}
