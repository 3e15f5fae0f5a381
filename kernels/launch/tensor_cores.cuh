// tensor_cores.cuh: the instructions that C++ has no word for, each beside what it means on the host (emulated.h).
//
// Copies    copy_async, copy_async_cached,             16 bytes of global memory to shared memory while the thread goes on
//           close_copies, wait_copies
// Rounding  tf32, bf16_pair                            float32 to the tensor cores' operands
// Products  load_pieces, load_pieces_transposed,       a warp multiplies small matrices together
//           mma_tf32, mma_bf16
//
// They need sm_80. A fragment is a small matrix spread over the registers of a warp's lanes: lane 4 g + t, with
// g = 0 .. 7 and t = 0 .. 3, is written (g, t) below.
//
// Formats   float32  1 sign, 8 exponent and 23 fraction bits
//           TF32     1, 8, 10: a float32 whose 13 lowest bits the tensor cores do not look at; rounding to it is
//                    off by at most 2^-11 of the number
//           bf16     1, 8, 7: the upper half of a float32; at most 2^-8 of it. C++ has no such type: its bits are held in
//                    an unsigned short

// ---- copies ---------------------------------------------------------------------------------------------------------
// Starts to copy 16 bytes, or zeros if not `inside`: then `from` may be any address. Both are multiples of 16 bytes.
__device__ __forceinline__ void copy_async(void* to, const void* from, bool inside) {
#ifdef EMULATED
    start_copy(to, inside ? from : nullptr);
#else
    asm volatile(
        "cp.async.cg.shared.global [%0], [%1], 16, %2;"
        :: "r"((unsigned)__cvta_generic_to_shared(to)), "l"(from),
           "r"(inside ? 16 : 0));  // so many of the bytes are read, the others are 0
#endif
}

// The same, and the multiprocessor's L1 cache keeps them: for what it will copy again soon.
__device__ __forceinline__ void copy_async_cached(void* to, const void* from, bool inside) {
#ifdef EMULATED
    start_copy(to, inside ? from : nullptr);
#else
    asm volatile(
        "cp.async.ca.shared.global [%0], [%1], 16, %2;"
        :: "r"((unsigned)__cvta_generic_to_shared(to)), "l"(from), "r"(inside ? 16 : 0));
#endif
}

// What the thread has started to copy since the last call is one group.
__device__ __forceinline__ void close_copies() {
#ifdef EMULATED
    close_copy_group();
#else
    asm volatile("cp.async.commit_group;");
#endif
}

// Waits until all groups of this thread's copies but the PENDING newest have landed.
template <int PENDING> __device__ __forceinline__ void wait_copies() {
#ifdef EMULATED
    land_copies(PENDING);
#else
    asm volatile("cp.async.wait_group %0;" ::"n"(PENDING) : "memory");
#endif
}

// ---- rounding -------------------------------------------------------------------------------------------------------
// x for a TF32 operand, of which the tensor cores cut off all but 10 fraction bits.
//
// They should not cut off x itself, which would make every number smaller. To add half of the last bit they keep takes an
// addition and, for an infinity and for NaN, a comparison: as many instructions as there are multiplications. (So does
// PTX's own cvt.rna.tf32.f32: it becomes a comparison, an addition and a mask.) One multiplication is enough. Let
// x = m 2^e with 1 <= m < 2, and u = 2^-11; the last bit is worth 2 u. m (1 + u) is greater than m by u to 2 u, and cutting
// takes off less than 2 u: what is left lies in (m - 2 u + m u, m + m u], off by at most u m, which is 2^-11 of x (and
// 2^-24, by which the product is rounded). A TF32 stays what it is, for m u < 2 u; so do infinity and NaN.
// (Where m is near 1 this is the nearest TF32, where it is near 2 the next one above: over all m, 1.4e-4 too much.)
__device__ __forceinline__ unsigned tf32(float x) { return __float_as_uint(x * (1.0f + 1.0f / 2048)); }

// The nearest bf16 of each, `low` in the lower 16 bits; of two equally near the one whose last bit is 0.
__device__ __forceinline__ unsigned bf16_pair(float low, float high) {
    unsigned bits;
#ifdef EMULATED
    unsigned halves[2];
    memcpy(halves, &low, 4), memcpy(halves + 1, &high, 4);
    for (unsigned& half : halves) {
        const bool nan = (half & 0x7fffffff) > 0x7f800000;
        half = nan ? 0x7fff : (half + 0x7fff + (half >> 16 & 1)) >> 16;
    }
    bits = halves[1] << 16 | halves[0];
#else
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(bits) : "f"(high), "f"(low));
#endif
    return bits;
}

// ---- fragments ------------------------------------------------------------------------------------------------------
// Loads four pieces of shared memory, each 8 rows of 16 bytes: four floats, or eight bf16. Lane l names row l % 8 of piece
// l / 8, a multiple of 16 bytes; lane (g, t) gets the 4 bytes t of row g of each piece: a float, or bf16 2 t and 2 t + 1.
// (ldmatrix speaks of matrices of 8 x 8 numbers of 16 bits; a float passes through it as two of them.)
__device__ __forceinline__ void load_pieces(const void* row, unsigned (&pieces)[4]) {
#ifdef EMULATED
    const unsigned slot = hand_out(~0u, row, __builtin_LINE());
    for (int piece = 0; piece < 4; ++piece)
        memcpy(&pieces[piece], (const char*)handed_out<const void*>(8 * piece + lane() / 4, slot) + 4 * (lane() % 4), 4);
#else
    asm volatile(
        "ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
        : "=r"(pieces[0]), "=r"(pieces[1]), "=r"(pieces[2]), "=r"(pieces[3])
        : "r"((unsigned)__cvta_generic_to_shared(row)) : "memory");
#endif
}

// The same of pieces of bf16, rows and columns exchanged: lane (g, t) gets number g of rows 2 t and 2 t + 1 of each piece,
// that of the former in the lower half.
__device__ __forceinline__ void load_pieces_transposed(const unsigned short* row, unsigned (&pieces)[4]) {
#ifdef EMULATED
    const unsigned slot = hand_out(~0u, row, __builtin_LINE());
    const auto number = [slot](int row) { return (unsigned)handed_out<const unsigned short*>(row, slot)[lane() / 4]; };
    for (int piece = 0; piece < 4; ++piece) {
        const int first = 8 * piece + 2 * (lane() % 4);
        pieces[piece] = number(first + 1) << 16 | number(first);
    }
#else
    asm volatile(
        "ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
        : "=r"(pieces[0]), "=r"(pieces[1]), "=r"(pieces[2]), "=r"(pieces[3])
        : "r"((unsigned)__cvta_generic_to_shared(row)) : "memory");
#endif
}

// ---- products -------------------------------------------------------------------------------------------------------
// sum += a b, with a (16, D), b (D, 8) and sum (16, 8). Of lane (g, t):
//
//     sum    rows g, g, g + 8, g + 8      columns 2 t, 2 t + 1, 2 t, 2 t + 1
//     TF32   D = 8: one number a register
//       a    rows g, g + 8, g, g + 8      depths t, t, t + 4, t + 4
//       b    column g                     depths t, t + 4
//     bf16   D = 16: two numbers a register, neighbours in depth, the lower one in the lower half
//       a    rows g, g + 8, g, g + 8      depths 2 t, 2 t, 2 t + 8, 2 t + 8, each with the next
//       b    column g                     depths 2 t, 2 t + 8, each with the next
//
// Read the other way round, who holds an element:
//
//                      lane (g, t)             register
//     sum[r][c]        (r % 8, c / 2)          2 (r / 8) + c % 2
//     TF32   a[r][d]   (r % 8, d % 4)          r / 8 + 2 (d / 4)
//            b[d][c]   (c, d % 4)              d / 4
//     bf16   a[r][d]   (r % 8, d / 2 % 4)      r / 8 + 2 (d / 8), half d % 2
//            b[d][c]   (c, d / 2 % 4)          d / 8, half d % 2
//
// No lane has a whole row or column: the instruction brings together what four lanes hold.
// All lanes of a warp must come to it: volatile, so that no compiler moves it to where some do not.
// The products are exact; a GPU adds them up with a few bits more than float32 has and cuts off what is below, the host
// rounds after each one.
#ifdef EMULATED
struct Operands {
    unsigned a[4], b[2];
};

// The number of depth d in a register: all of it, cut to TF32, or one of two bf16.
template <bool BF16> static float as_float(unsigned bits, int d) {
    return __uint_as_float(BF16 ? (d % 2 ? bits >> 16 : bits) << 16 : bits & ~0x1fffu);
}

// sum += a b out of all lanes' registers.
template <bool BF16> static void multiply_fragments(float (&sum)[4], const Operands& operands) {
    constexpr int depth = BF16 ? 16 : 8;
    const unsigned slot = hand_out(~0u, operands, __LINE__);
    const int g = lane() / 4, t = lane() % 4;
    float a[2][depth], b[2][depth];  // rows and columns that meet in this lane's sums
    for (int d = 0; d < depth; ++d) {
        const int holder = BF16 ? d / 2 % 4 : d % 4, upper = 2 * d / depth;  // where depth d is
        for (int half = 0; half < 2; ++half) {
            a[half][d] = as_float<BF16>(handed_out<Operands>(4 * g + holder, slot).a[half + 2 * upper], d);
            b[half][d] = as_float<BF16>(handed_out<Operands>(4 * (2 * t + half) + holder, slot).b[upper], d);
        }
    }
    for (int e = 0; e < 4; ++e)
        for (int d = 0; d < depth; ++d) sum[e] += a[e / 2][d] * b[e % 2][d];
}
#endif

__device__ __forceinline__ void mma_tf32(float (&sum)[4], const unsigned (&a)[4], unsigned b0, unsigned b1) {
#ifdef EMULATED
    multiply_fragments<false>(sum, {{a[0], a[1], a[2], a[3]}, {b0, b1}});
#else
    asm volatile(
        "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
        "{%0, %1, %2, %3};"
        : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
#endif
}

__device__ __forceinline__ void mma_bf16(float (&sum)[4], const unsigned (&a)[4], unsigned b0, unsigned b1) {
#ifdef EMULATED
    multiply_fragments<true>(sum, {{a[0], a[1], a[2], a[3]}, {b0, b1}});
#else
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
        "{%0, %1, %2, %3};"
        : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
#endif
}
