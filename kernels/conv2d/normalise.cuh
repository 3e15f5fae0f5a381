// normalise.cuh: a convolution that reads x and convolves a = rectified(gain (x - mean) + shift), or a = rectified(x)
//
// a is what ../batch_norm_leaky_relu makes of x, the same numbers to the bit (../batch_norm/equation.cuh), or what
// ../leaky_relu does; but it is nowhere in memory: not written, not read, and not kept for the gradient, which reads x too.
// To rectify x as it is, is to normalise it with mean 0, gain 1 and shift 0, which changes no number: one way for both.
//
// Who     A thread normalises, where they lie in shared memory, the very floats that it had copied there: when they have
//         landed, while the tile before is multiplied, and so before the barrier after which others read them. No barrier
//         is added.
// Zeros   What a copy did not find inside its picture is padding of a, and stays 0.
// Shared  table (3, channels): mean, gain and shift of each channel that the block meets. A thread's four floats are of
//         neighbouring channels, and it reads four of each at once.

#include "../batch_norm/equation.cuh"

constexpr int NORMALISE = 1, RECTIFY = 2;  // what is pending; 0: nothing

// What channel c is normalised with. RECTIFY looks at no array.
__device__ Column column_of(
    int pending, int c,
    const float* __restrict__ scale,     // (C,)
    const float* __restrict__ shift,     // (C,)
    const float* __restrict__ mean,      // (C,)
    const float* __restrict__ variance,  // (C,)
    float eps) {
    return pending == RECTIFY ? Column{0.0f, 1.0f, 0.0f} : column_of(c, scale, shift, mean, variance, eps);
}

// Makes the table, which is there after the next barrier. Its channel i is that of channel(i).
template <class Channel>
__device__ void make_table(
    int pending, float* table,  // (3,channels)
    int channels, Channel channel,
    const float* __restrict__ scale,     // (all channels,)
    const float* __restrict__ shift,     // (all channels,)
    const float* __restrict__ mean,      // (all channels,)
    const float* __restrict__ variance,  // (all channels,)
    float eps) {
    for (int i = threadIdx.x; i < channels; i += blockDim.x) {
        const Column column = column_of(pending, channel(i), scale, shift, mean, variance, eps);
        table[i] = column.mean;
        table[channels + i] = column.gain;
        table[2 * channels + i] = column.shift;
    }
}

// Of the table, the four channels from `first` on.
struct FourColumns {
    float4 mean, gain, shift;
};

__device__ FourColumns four_columns(const float* table /* (3,channels) */, int channels, int first) {
    return {
        *reinterpret_cast<const float4*>(table + first), *reinterpret_cast<const float4*>(table + channels + first),
        *reinterpret_cast<const float4*>(table + 2 * channels + first)};
}

__device__ float4 normalise_four(float4 x, const FourColumns& of, float slope) {
    return make_float4(
        rectified(normalised(x.x, {of.mean.x, of.gain.x, of.shift.x}), slope),
        rectified(normalised(x.y, {of.mean.y, of.gain.y, of.shift.y}), slope),
        rectified(normalised(x.z, {of.mean.z, of.gain.z, of.shift.z}), slope),
        rectified(normalised(x.w, {of.mean.w, of.gain.w, of.shift.w}), slope));
}
