// adam.cu: one step of Adam (Kingma and Ba 2015, algorithm 1)      (minigan/optim.py)
//
// Shapes  of parameter i of a network: itself, its gradient, m and v (sizes[i],); step ()
#include "../launch/elements.cuh"
#include "../launch/table.cuh"

constexpr int ELEMENTS = EACH * BLOCK;  // of one parameter, that a block moves

// ---- adam_corrections -----------------------------------------------------------------------------------------------
// The step is counted where the kernels are, so that a step that is launched again and again counts too. 1 - beta^step
// would cancel in float32: it is computed in double, and rounded.
// Launch  one thread
extern "C" __global__ void adam_corrections(
    int* __restrict__ step,           // () updates made before this one; counted up
    float* __restrict__ corrections,  // (2,) 1 - beta1^step, 1 - beta2^step
    double beta1, double beta2) {
    const int t = ++step[0];
    corrections[0] = (float)(1.0 - pow(beta1, (double)t));
    corrections[1] = (float)(1.0 - pow(beta2, (double)t));
}

// ---- adam -----------------------------------------------------------------------------------------------------------
// All parameters of a network in one launch: the gradients lie where the backward pass has left them.
// Block   a thread moves EACH elements of one parameter, BLOCK apart
// Launch  grid (blocks_of(sizes[0]) + blocks_of(sizes[1]) + ...), block (BLOCK)
// Napkin  reads 4 floats, writes 3: 28 bytes an element for a dozen operations. Memory is all that counts, and it is kept
//         busy: a thread has 4 EACH loads under way before it waits for the first.
__device__ int blocks_of(int size) {
    return (size - 1) / ELEMENTS + 1;
}

// rest1 = 1 - beta1, rest2 = 1 - beta2: from the host, computed in double.
extern "C" __global__ void adam(
    const Table<float*> parameters,       // theta, in place
    const Table<const float*> gradients,
    const Table<float*> m,                // moving means of the gradients, in place
    const Table<float*> v,                // moving means of their squares, in place
    const Table<int> sizes,
    const float* __restrict__ corrections,  // (2,)
    float lr, float beta1, float beta2, float rest1, float rest2, float eps) {
    int i = 0, block = blockIdx.x;  // this block is number `block` of parameter i
    for (; block >= blocks_of(sizes.row[i]); ++i) block -= blocks_of(sizes.row[i]);
    const int size = sizes.row[i];
    const float correction1 = corrections[0], correction2 = corrections[1];

    float theta[EACH], gradient[EACH], mean[EACH], square[EACH];
    load(theta, parameters.row[i], size, block);
    load(gradient, gradients.row[i], size, block);
    load(mean, m.row[i], size, block);
    load(square, v.row[i], size, block);
    for (int e = 0; e < EACH; ++e) {
        mean[e] = beta1 * mean[e] + rest1 * gradient[e];
        square[e] = beta2 * square[e] + rest2 * (gradient[e] * gradient[e]);
        const float m_hat = mean[e] / correction1, v_hat = square[e] / correction2;
        theta[e] -= lr * m_hat / (sqrtf(v_hat) + eps);
    }
    store(theta, parameters.row[i], size, block);
    store(mean, m.row[i], size, block);
    store(square, v.row[i], size, block);
}
