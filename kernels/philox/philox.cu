// philox.cu: random numbers by counter, Philox 4x32-10 (Salmon et al. 2011)      (kernels/philox/reference.py)
//
// Shapes  state (6,) uint32: two words of key, four of a 128-bit counter, the lowest first; out has `size` elements
// Block   256 threads, a thread an element: a warp stores 128 contiguous bytes. Element e is word e % 4 of the cipher
//         of counter + e / 4; each of a cipher block's four threads enciphers it anew: 20 products, and no waiting.
// Launch  grid (size / 256, rounded up), block (256). size < 2^31
// Napkin  4 bytes an element for 20 products, and for a normal number dozens of operations on doubles: arithmetic is what
//         counts. Several elements a thread, as in launch/elements.cuh, would only make small arrays wait longer.
//
// The same bits on every device: floating point is double, with only + - * / and sqrt, which round exactly, in the
// order of reference.py. This file is compiled without contraction: a * b + c rounds twice.

constexpr int TERMS = 8;  // coefficients of each of the quantile's polynomials

// Word e of the stream that begins at `state`.
__device__ unsigned int word_at(const unsigned int* state, unsigned int e) {
    unsigned int k0 = state[0], k1 = state[1];
    unsigned int c[4];  // counter + e / 4, with its carries; then what the rounds make of it
    unsigned long long carry = e / 4;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
        carry += state[2 + i];
        c[i] = (unsigned int)carry;
        carry >>= 32;
    }
#pragma unroll
    for (int round = 0; round < 10; ++round) {
        const unsigned long long product0 = 0xD2511F53ull * c[0], product1 = 0xCD9E8D57ull * c[2];
        c[0] = (unsigned int)(product1 >> 32) ^ c[1] ^ k0;
        c[1] = (unsigned int)product1;
        c[2] = (unsigned int)(product0 >> 32) ^ c[3] ^ k1;
        c[3] = (unsigned int)product0;
        k0 += 0x9E3779B9u;  // golden ratio
        k1 += 0xBB67AE85u;  // sqrt(3) - 1
    }
    // Chosen, not indexed: registers have no addresses.
    const unsigned int low = e & 1 ? c[1] : c[0], high = e & 1 ? c[3] : c[2];
    return e & 2 ? high : low;
}

// (word + 1/2) / 2^32: in (0, 1), never 0 or 1. Exact.
__device__ double unit_at(const unsigned int* state, unsigned int e) {
    return (word_at(state, e) + 0.5) * 0x1p-32;
}

// The polynomial, highest power first: ((c0 x + c1) x + c2) x ...
template <int N>
__device__ double horner(const double (&coefficients)[N], double x) {
    double total = coefficients[0];
#pragma unroll
    for (int i = 1; i < N; ++i) total = total * x + coefficients[i];
    return total;
}

// log(x) of x = m 2^e, sqrt(1/2) <= m < sqrt(2): e log(2) + 2 atanh(s), s = (m - 1) / (m + 1), |s| < 0.172.
__device__ double natural_log(double x) {
    constexpr double ATANH_SERIES[11] = {1.0 / 21, 1.0 / 19, 1.0 / 17, 1.0 / 15, 1.0 / 13, 1.0 / 11,
                                         1.0 / 9,  1.0 / 7,  1.0 / 5,  1.0 / 3,  1.0};  // of atanh(s) / s, in s^2
    int e;
    double m = frexp(x, &e);  // 1/2 <= m < 1, exact
    if (m < 0.7071067811865476) {
        m = 2.0 * m;
        e = e - 1;
    }
    const double s = (m - 1.0) / (m + 1.0);
    return e * 0.6931471805599453 + 2.0 * s * horner(ATANH_SERIES, s * s);
}

// The z with Phi(z) = p, to 16 digits (Wichura 1988, AS 241, PPND16). The third pair of polynomials there, for
// p < exp(-25), is never reached: p >= 2^-33.
__device__ double quantile(double p) {
    constexpr double MIDDLE_NUMERATOR[TERMS] = {
        2.5090809287301226727e3, 3.3430575583588128105e4, 6.7265770927008700853e4, 4.5921953931549871457e4,
        1.3731693765509461125e4, 1.9715909503065514427e3, 1.3314166789178437745e2, 3.3871328727963666080e0};
    constexpr double MIDDLE_DENOMINATOR[TERMS] = {
        5.2264952788528545610e3, 2.8729085735721942674e4, 3.9307895800092710610e4, 2.1213794301586595867e4,
        5.3941960214247511077e3, 6.8718700749205790830e2, 4.2313330701600911252e1, 1.0};
    constexpr double TAIL_NUMERATOR[TERMS] = {
        7.74545014278341407640e-4, 2.27238449892691845833e-2, 2.41780725177450611770e-1, 1.27045825245236838258e0,
        3.64784832476320460504e0,  5.76949722146069140550e0,  4.63033784615654529590e0,  1.42343711074968357734e0};
    constexpr double TAIL_DENOMINATOR[TERMS] = {
        1.05075007164441684324e-9, 5.47593808499534494600e-4, 1.51986665636164571966e-2, 1.48103976427480074590e-1,
        6.89767334985100004550e-1, 1.67638483018380384940e0,  2.05319162663775882187e0,  1.0};
    const double q = p - 0.5;
    if (fabs(q) <= 0.425) {
        const double r = 0.180625 - q * q;
        return q * horner(MIDDLE_NUMERATOR, r) / horner(MIDDLE_DENOMINATOR, r);
    }
    const double r = sqrt(-natural_log(fmin(p, 1.0 - p))) - 1.6;
    const double z = horner(TAIL_NUMERATOR, r) / horner(TAIL_DENOMINATOR, r);
    return q < 0.0 ? -z : z;
}

// ---- philox ---------------------------------------------------------------------------------------------------------
extern "C" __global__ void philox(
    const unsigned int* __restrict__ state,  // (6,)
    unsigned int* __restrict__ words,        // (blocks, 4), `size` words
    int size) {
    const unsigned int e = blockIdx.x * blockDim.x + threadIdx.x;
    if (e < size) words[e] = word_at(state, e);
}

// ---- philox_advance -------------------------------------------------------------------------------------------------
// The counter, with its carries, moves past the blocks that were drawn. It lives where the kernels do, so that a step that
// is launched again and again draws other numbers each time.
// Launch  one thread
extern "C" __global__ void philox_advance(
    unsigned int* __restrict__ state,  // (6,), in place
    unsigned long long blocks) {
    unsigned long long carry = 0;
    for (int i = 0; i < 4; ++i) {
        carry += state[2 + i];
        if (i < 2) carry += (unsigned int)(blocks >> 32 * i);
        state[2 + i] = (unsigned int)carry;
        carry >>= 32;
    }
}

// ---- uniform --------------------------------------------------------------------------------------------------------
extern "C" __global__ void uniform(
    const unsigned int* __restrict__ state,  // (6,)
    float* __restrict__ out,                 // (size,)
    int size, double low, double high) {
    const unsigned int e = blockIdx.x * blockDim.x + threadIdx.x;
    if (e < size) out[e] = (float)(low + (high - low) * unit_at(state, e));
}

// ---- normal ---------------------------------------------------------------------------------------------------------
extern "C" __global__ void normal(
    const unsigned int* __restrict__ state,  // (6,)
    float* __restrict__ out,                 // (size,)
    int size, double mean, double std) {
    const unsigned int e = blockIdx.x * blockDim.x + threadIdx.x;
    if (e < size) out[e] = (float)(mean + std * quantile(unit_at(state, e)));
}

// ---- truncated_normal -----------------------------------------------------------------------------------------------
// Normal, given that it lies within two standard deviations: u is squeezed between Phi(-2) and Phi(2).
extern "C" __global__ void truncated_normal(
    const unsigned int* __restrict__ state,  // (6,)
    float* __restrict__ out,                 // (size,)
    int size, double mean, double std) {
    const double below = 0.022750131948179195, within = 0.9544997361036416;  // Phi(-2), 1 - 2 Phi(-2)
    const unsigned int e = blockIdx.x * blockDim.x + threadIdx.x;
    if (e < size) out[e] = (float)(mean + std * quantile(below + within * unit_at(state, e)));
}
