// tanh.cu: y = tanh(x)      (minigan/ops/tanh.py)
//
// Shapes  any; x and y have `size` elements, float32, C-contiguous
// Block   256 threads, a thread an element: a warp loads and stores 128 contiguous bytes
// Launch  grid (size / 256, rounded up), block (256)

// Not named plain `tanh`: C has a function of that name, and extern "C" knows no other by it.
extern "C" __global__ void tanh_elements(
    const float* __restrict__ x,  // (size,)
    float* __restrict__ y,        // (size,)
    int size) {
    const int e = blockIdx.x * blockDim.x + threadIdx.x;
    if (e < size) y[e] = tanhf(x[e]);
}
