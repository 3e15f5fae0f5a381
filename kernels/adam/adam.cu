// adam.cu: one step of Adam (Kingma and Ba 2015, algorithm 1)      (minigan/optim.py)
//
// Shapes  parameters, gradients, m, v (P,): a network's parameters in one flat array, moved by one launch
// Block   256 threads, a thread a parameter: a warp loads and stores 128 contiguous bytes of each array
// Launch  grid (P / 256, rounded up), block (256)
// Napkin  reads 4 floats, writes 3: 28 bytes a parameter for a dozen operations. Memory is all that counts.
//
// The numbers that would cancel in float32 come from the host, computed in double:
// rest1 = 1 - beta1, rest2 = 1 - beta2, correction1 = 1 - beta1^step, correction2 = 1 - beta2^step.

extern "C" __global__ void adam(
    float* __restrict__ parameters,       // (P,) theta, in place
    const float* __restrict__ gradients,  // (P,)
    float* __restrict__ m,                // (P,) moving mean of the gradients, in place
    float* __restrict__ v,                // (P,) moving mean of their squares, in place
    int P, float lr, float beta1, float beta2, float rest1, float rest2, float correction1, float correction2,
    float eps) {
    const int e = blockIdx.x * blockDim.x + threadIdx.x;
    if (e >= P) return;
    const float g = gradients[e];
    m[e] = beta1 * m[e] + rest1 * g;
    v[e] = beta2 * v[e] + rest2 * (g * g);
    const float m_hat = m[e] / correction1;
    const float v_hat = v[e] / correction2;
    parameters[e] -= lr * m_hat / (sqrtf(v_hat) + eps);
}
