// leaky_relu.cu: y = x where x > 0, else slope x      (minigan/ops/leaky_relu.py)
//
// Shapes  any; all arrays have `size` elements, float32, C-contiguous
// Block   256 threads, a thread an element: a warp loads and stores 128 contiguous bytes
// Launch  grid (size / 256, rounded up), block (256)

// ---- leaky_relu -----------------------------------------------------------------------------------------------------
extern "C" __global__ void leaky_relu(
    const float* __restrict__ x,  // (size,)
    float* __restrict__ y,        // (size,)
    int size, float slope) {
    const int e = blockIdx.x * blockDim.x + threadIdx.x;
    if (e < size) y[e] = x[e] > 0.0f ? x[e] : slope * x[e];
}

// ---- leaky_relu_grad ------------------------------------------------------------------------------------------------
// gx = gy where x > 0, else slope gy: at 0, where there is no derivative, it is taken from below.
extern "C" __global__ void leaky_relu_grad(
    const float* __restrict__ gy,  // (size,)
    const float* __restrict__ x,   // (size,)
    float* __restrict__ gx,        // (size,)
    int size, float slope) {
    const int e = blockIdx.x * blockDim.x + threadIdx.x;
    if (e < size) gx[e] = x[e] > 0.0f ? gy[e] : slope * gy[e];
}
