// ptx.h: what each instruction of PTX means, on the host   (ptx.py writes the calls; NVIDIA's PTX ISA 9.0, chapter 9)
//
// A register is an unsigned word of 16, 32 or 64 bits, whatever is in it; a predicate is a bool. The instruction's type
// says how it reads them: `add.f32 %f3, %f1, %f2` is take(ptx_add<F32>(f1, f2), f3). Only what NVRTC makes of our
// kernels is here. Barriers, shuffles and copies are those of emulated.h. A NaN has the host's bits, not a GPU's.
#include <fenv.h>

#include <array>
#include <tuple>

enum Space { SHARED, GLOBAL };  // where an address is: in the block's window, or in memory
#ifdef EMULATED_COUNTED
#include "counted.h"
#else
#define ISSUED(NAME)
static void ask(Space, uint64_t, unsigned) {}
#endif

typedef uint8_t U8, B8;
typedef uint16_t U16, B16;
typedef uint32_t U32, B32;
typedef uint64_t U64, B64;
typedef int8_t S8;
typedef int16_t S16;
typedef int32_t S32;
typedef int64_t S64;
typedef float F32;
typedef double F64;
typedef bool PRED;

template <int BYTES> struct Word;
template <> struct Word<1> { typedef uint8_t type; };
template <> struct Word<2> { typedef uint16_t type; };
template <> struct Word<4> { typedef uint32_t type; };
template <> struct Word<8> { typedef uint64_t type; };
template <class T> struct Register { typedef typename Word<sizeof(T)>::type type; };
template <> struct Register<bool> { typedef bool type; };
template <class T> using Bits = typename Register<T>::type;  // a register that holds a T
template <class T> constexpr bool WHOLE = T(0.5) == T(0);    // numbers
template <class T> constexpr bool SIGNED = T(-1) < T(0);
// What a register takes that may be wider: a signed number with its sign.
template <class T> using Signed = typename std::conditional<WHOLE<T>, T, Bits<T>>::type;

// A register read as a T, and a T as it is in a register.
template <class T> static T as(Bits<T> bits) {
    T value;
    memcpy(&value, &bits, sizeof(T));
    return value;
}
template <class T> static Bits<T> bits(T value) {
    Bits<T> bits;
    memcpy(&bits, &value, sizeof(T));
    return bits;
}

// The registers that take what an instruction gives: one, which may be wider, or several, or a word's two halves.
template <class Value, class Taker> static void take(Value value, Taker& taker) {
    static_assert(sizeof(Value) <= sizeof(Taker), "a register is too narrow for what it is given");
    taker = value;
}
static void take(std::array<U32, 4> from, U32& a, U32& b, U32& c, U32& d) {
    a = from[0], b = from[1], c = from[2], d = from[3];
}
static void take(U64 whole, U32& low, U32& high) { low = whole, high = whole >> 32; }
static void take(U32 whole, U16& low, U16& high) { low = whole, high = whole >> 16; }
static U32 _;  // takes what is not wanted

// An instruction of one, two or three operands, by what it makes of their values.
#define UNARY(NAME, VALUE) \
    template <class T> static Bits<T> ptx_##NAME(Bits<T> ra) { const T a = as<T>(ra); return bits<T>(VALUE); }
#define BINARY(NAME, VALUE) \
    template <class T> static Bits<T> ptx_##NAME(Bits<T> ra, Bits<T> rb) { \
        const T a = as<T>(ra), b = as<T>(rb); \
        return bits<T>(VALUE); \
    }
#define TERNARY(NAME, VALUE) \
    template <class T> static Bits<T> ptx_##NAME(Bits<T> ra, Bits<T> rb, Bits<T> rc) { \
        const T a = as<T>(ra), b = as<T>(rb), c = as<T>(rc); \
        return bits<T>(VALUE); \
    }

// ---- arithmetic -----------------------------------------------------------------------------------------------------
// Whole numbers wrap around: the host's signed ones do too (-fwrapv).
template <class T> static bool negative(T a) { return bits(a) >> (8 * sizeof(T) - 1); }  // -0 is
// Of a number and NaN, the number; -0 is less than 0.
template <class T> static T lesser(T a, T b) { return a == b ? (negative(a) ? a : b) : a < b || b != b ? a : b; }
template <class T> static T greater(T a, T b) { return a == b ? (negative(a) ? b : a) : a > b || b != b ? a : b; }
template <class T> static T magnitude(T a) { return negative(a) ? -a : a; }

BINARY(add, a + b)
BINARY(sub, a - b)
BINARY(mul, a * b)
BINARY(mul_lo, a * b)
BINARY(min, lesser(a, b))
BINARY(max, greater(a, b))
BINARY(add_rn, a + b)  // as without .rn, but never fused with a product
BINARY(sub_rn, a - b)
BINARY(mul_rn, a * b)
BINARY(div_rn, a / b)
UNARY(neg, -a)
UNARY(abs, magnitude(a))
UNARY(sqrt_rn, (T)sqrt(a))
UNARY(rcp_rn, 1 / a)
TERNARY(mad_lo, a * b + c)
TERNARY(fma_rn, sizeof(T) == 4 ? (T)fmaf(a, b, c) : (T)fma(a, b, c))
BINARY(copysign, (T)copysign(b, a))  // a's sign, b's magnitude

// Whole numbers. The host would stop at a division by 0, of which PTX says no result, and at the least number by -1.
BINARY(div, b == 0 ? (T)-1 : SIGNED<T> && b == (T)-1 ? (T)(0 - a) : (T)(a / b))
BINARY(rem, b == 0 ? a : SIGNED<T> && b == (T)-1 ? (T)0 : (T)(a % b))

template <class T> struct Twice;
template <> struct Twice<S16> { typedef S32 type; };
template <> struct Twice<U16> { typedef U32 type; };
template <> struct Twice<S32> { typedef S64 type; };
template <> struct Twice<U32> { typedef U64 type; };
template <class T> static Bits<typename Twice<T>::type> ptx_mul_wide(Bits<T> a, Bits<T> b) {
    typedef typename Twice<T>::type Wide;
    return bits<Wide>((Wide)as<T>(a) * as<T>(b));
}
template <class T> static Bits<T> ptx_mul_hi(Bits<T> a, Bits<T> b) { return ptx_mul_wide<T>(a, b) >> 8 * sizeof(T); }

// Rounded another way than to the nearest. volatile: or the compiler computes before the host rounds that way.
template <class T> static T rounded(int mode, T (*compute)(T, T, T), T a, T b, T c) {
    volatile T x = a, y = b, z = c;
    fesetround(mode);
    volatile T value = compute(x, y, z);
    fesetround(FE_TONEAREST);
    return value;
}
static float fused(float a, float b, float c) { return fmaf(a, b, c); }
static float sum_of_two(float a, float b, float) { return a + b; }
TERNARY(fma_rm, rounded<T>(FE_DOWNWARD, fused, a, b, c))
BINARY(add_rz, rounded<T>(FE_TOWARDZERO, sum_of_two, a, b, 0))

// An approximation is some ulp off on a GPU, and the nearest number here. ftz: what is denormal is 0.
static float flushed(float a) { return fabsf(a) < 0x1p-126f ? copysignf(0, a) : a; }
static double flushed(double a) { return fabs(a) < 0x1p-1022 ? copysign(0, a) : a; }
UNARY(ex2_approx_ftz, flushed(exp2f(flushed(a))))
// Of a float64 and of its reciprocal the upper halves alone, with 20 fraction bits.
static float upper(float a) { return a; }
static double upper(double a) { return as<double>(bits(a) >> 32 << 32); }
UNARY(rcp_approx_ftz, upper(flushed(1 / flushed(upper(a)))))

// ---- bits -----------------------------------------------------------------------------------------------------------
BINARY(and, a & b)
BINARY(or, a | b)
BINARY(xor, a ^ b)
template <class T> static Bits<T> ptx_not(Bits<T> a) { return sizeof(T) == sizeof(bool) ? !a : ~a; }
// A shift by more than there are bits leaves none, or only the sign.
template <class T> static Bits<T> ptx_shl(Bits<T> a, U32 by) { return by < 8 * sizeof(T) ? a << by : 0; }
template <class T> static Bits<T> ptx_shr(Bits<T> a, U32 by) {
    const U32 most = 8 * sizeof(T) - 1;
    return bits<T>(by <= most ? as<T>(a) >> by : as<T>(a) >> most >> 1);
}
// The upper half of the word that a, below, and b are, shifted by 0 to 31.
template <class T> static Bits<T> ptx_shf_l_wrap(Bits<T> a, Bits<T> b, U32 by) {
    return ptx_shl<T>(b, by & 31) | ptx_shr<T>(a, 32 - (by & 31));
}
// `length` bits of a, put into b from bit `first` on; both are 8 bits.
template <class T> static Bits<T> ptx_bfi(Bits<T> a, Bits<T> b, U32 first, U32 length) {
    const Bits<T> mask = ptx_shl<T>(ptx_shl<T>(1, length & 255) - 1, first & 255);
    return (ptx_shl<T>(a, first & 255) & mask) | (b & ~mask);
}

// ---- comparisons and choices ----------------------------------------------------------------------------------------
#define COMPARISON(NAME, HOLDS) \
    template <class T> static bool ptx_setp_##NAME(Bits<T> ra, Bits<T> rb) { \
        const T a = as<T>(ra), b = as<T>(rb); \
        return HOLDS; \
    }
// If one is NaN, these are false,
COMPARISON(eq, a == b)
COMPARISON(ne, a < b || a > b)
COMPARISON(lt, a < b)
COMPARISON(le, a <= b)
COMPARISON(gt, a > b)
COMPARISON(ge, a >= b)
// and these true.
COMPARISON(equ, !(a < b || a > b))
COMPARISON(neu, !(a == b))
COMPARISON(ltu, !(a >= b))
COMPARISON(leu, !(a > b))
COMPARISON(gtu, !(a <= b))
COMPARISON(geu, !(a < b))
COMPARISON(num, a == a && b == b)  // neither is NaN
COMPARISON(nan, a != a || b != b)
template <class T> static Bits<T> ptx_selp(Bits<T> a, Bits<T> b, bool first) { return first ? a : b; }

// ---- moves and conversions ------------------------------------------------------------------------------------------
template <class T> static Bits<T> ptx_mov(Bits<T> a) { return a; }
template <class T> static Bits<T> ptx_mov(std::array<typename Word<sizeof(T) / 2>::type, 2> halves) {
    return (Bits<T>)halves[1] << 4 * sizeof(T) | halves[0];
}

// A whole number to another, which wraps around.
template <class To, class From> static Signed<To> ptx_cvt(Bits<From> a) {
    static_assert(WHOLE<To> && WHOLE<From>, "");
    return (To)as<From>(a);
}
// To a float, rounded to the nearest.
template <class To, class From> static Bits<To> ptx_cvt_rn(Bits<From> a) {
    static_assert(!WHOLE<To>, "");
    return bits<To>((To)as<From>(a));
}
// A float cut to a whole number of 32 bits, or to a float: one that is too large is the largest, NaN is 0.
template <class To, class From> static Signed<To> ptx_cvt_rzi(Bits<From> ra) {
    const From a = as<From>(ra);
    if constexpr (WHOLE<To>) {
        static_assert(sizeof(To) == 4 && sizeof(From) == 4, "");  // others make another number of NaN
        const double least = SIGNED<To> ? -0x1p31 : 0, beyond = SIGNED<To> ? 0x1p31 : 0x1p32;
        return a != a ? (To)0 : a <= least ? (To)least : a >= beyond ? (To)~(To)least : (To)a;
    } else {
        return bits<To>((To)trunc(a));
    }
}
// A float to one that is whole, the next one below or the nearest; or to between 0 and 1, NaN to 0.
#define TO_A_FLOAT(NAME, VALUE) \
    template <class To, class From> static Bits<To> ptx_cvt_##NAME(Bits<From> ra) { \
        static_assert(!WHOLE<To> && std::is_same<To, From>::value, ""); \
        const From a = as<From>(ra); \
        return bits<To>((To)(VALUE)); \
    }
TO_A_FLOAT(rmi, floor(a))
TO_A_FLOAT(rni, nearbyint(a))
TO_A_FLOAT(sat, a > 0 ? lesser(a, (From)1) : 0)
struct BF16X2 {
    U32 halves;
};
// Two floats to the nearest bf16, the first in the upper half; of two equally near the even one.
template <class To, class From> static U32 ptx_cvt_rn(U32 upper, U32 lower) {
    const auto rounded = [](U32 a) -> U32 {
        if (as<F32>(a) != as<F32>(a)) return 0x7fff;
        const U32 cut = a & 0xffff, kept = a >> 16;
        return kept + (cut > 0x8000 || (cut == 0x8000 && kept % 2));
    };
    return rounded(upper) << 16 | rounded(lower);
}

// ---- memory ---------------------------------------------------------------------------------------------------------
// Global memory, a thread's own and parameters have the host's addresses. Shared memory is a window of its own, whose
// addresses begin at 0: `window_taken` bytes of the kernel's own arrays, then what the launch says.
static const U32 WINDOW = 227 << 10;  // bytes
__shared__ alignas(1024) char window[WINDOW] = {};
static U32 window_taken;

// tell() what is wrong with a launch, if nothing else was wrong before.
#define WRONG(...) do { if (!failure[0]) tell(__VA_ARGS__); } while (0)

// Whether a kernel starts: with so many bytes of its own, and no more threads than __launch_bounds__ says.
static bool starts(U32 taken, U32 threads) {
    const U32 given = blockDim.x * blockDim.y * blockDim.z;
    window_taken = taken;
    if (given > threads) WRONG("a block of %u threads, and its bounds are %u", given, threads);
    if (taken + dynamic_shared_size > WINDOW) WRONG("%zu bytes of shared memory", taken + dynamic_shared_size);
    return !failure[0];
}

// Where in the .cu an instruction comes from: the last argument of those that may go wrong, which is never written down.
struct Place {
    const char* file;
    int line;
};
#define HERE Place place = {__builtin_FILE(), __builtin_LINE()}

// What is wrong with an access is told apart from it: these stand thousands of times in a kernel.
static __attribute__((noinline, cold)) void not_aligned(U32 bytes, Place place) {
    WRONG("%s:%d: %u bytes at an address that is no multiple", place.file, place.line, bytes);
}
static __attribute__((noinline, cold)) char* outside(U32 address, Place place) {
    WRONG("%s:%d: shared memory at %u, and the block has %zu", place.file, place.line, address,
          window_taken + dynamic_shared_size);
    return window;
}
static char* in_window(U32 address, U32 bytes, Place place) {
    ask(SHARED, address, bytes);
    if (address % bytes) not_aligned(bytes, place);
    return (U64)address + bytes <= window_taken + dynamic_shared_size ? window + address : outside(address, place);
}
static char* in_memory(U64 address, U32 bytes, Place place) {
    ask(GLOBAL, address, bytes);
    if (address % bytes) not_aligned(bytes, place);
    return (char*)address;
}

template <class V> static V loaded(const char* place) {
    V value;
    memcpy(&value, place, sizeof value);
    return value;
}
template <class V> static void store(char* place, V value) { memcpy(place, &value, sizeof value); }

// Of one number, of two or of four side by side, whose address is a multiple of all their bytes.
template <class T> using Two = std::array<Bits<T>, 2>;
template <class T> using Four = std::array<Bits<T>, 4>;
#define LOAD(NAME, VALUE, ADDRESS, IN) \
    template <class T> static VALUE ptx_ld_##NAME(ADDRESS address, HERE) { \
        return loaded<VALUE>(IN(address, sizeof(VALUE), place)); \
    }
#define STORE(NAME, VALUE, ADDRESS, IN) \
    template <class T> static void ptx_st_##NAME(ADDRESS address, VALUE value, HERE) { \
        store(IN(address, sizeof(VALUE), place), value); \
    }
LOAD(global, Signed<T>, U64, in_memory)
LOAD(global_v4, Four<T>, U64, in_memory)
LOAD(global_nc, Signed<T>, U64, in_memory)  // through the cache of what nobody writes
LOAD(global_nc_v4, Four<T>, U64, in_memory)
STORE(global, Bits<T>, U64, in_memory)
STORE(global_v2, Two<T>, U64, in_memory)
STORE(global_v4, Four<T>, U64, in_memory)
LOAD(shared, Signed<T>, U32, in_window)
LOAD(shared_v4, Four<T>, U32, in_window)
STORE(shared, Bits<T>, U32, in_window)
STORE(shared_v4, Four<T>, U32, in_window)
LOAD(local, Signed<T>, U64, in_memory)
STORE(local, Bits<T>, U64, in_memory)
LOAD(param, Signed<T>, U64, in_memory)
STORE(param, Bits<T>, U64, in_memory)
template <class T> static U64 ptx_cvta_to_global(U64 address) { return address; }

// ---- barriers and shuffles ------------------------------------------------------------------------------------------
static void ptx_bar_sync(U32 barrier, HERE) {
    if (barrier) WRONG("%s:%d: barrier %u, and only 0 is known here", place.file, place.line, barrier);
    wait_at(AT_BLOCK_BARRIER, 0, place.line);
}
static void ptx_bar_warp_sync(U32 mask, HERE) { wait_at(AT_WARP_BARRIER, mask, place.line); }

// The value of another lane, if it is within the segment: `limits` says, from bit 8 on, which bits of a lane's number
// name its segment, and in the lower 5 the segment's last lane (for .up its first). Else the lane's own, and false.
struct Exchanged {
    U32 value;
    bool inside;
};
static void take(Exchanged from, U32& value, bool& inside) { value = from.value, inside = from.inside; }
#define SHUFFLE(NAME, SOURCE, INSIDE) \
    template <class T> static Exchanged ptx_shfl_sync_##NAME( \
        U32 value, U32 by, U32 limits, U32 mask, HERE) { \
        const int segment = limits >> 8 & 31, last = (lane() & segment) | (limits & 31 & ~segment); \
        const int source = SOURCE; \
        const bool inside = INSIDE; \
        static_assert(sizeof(T) == sizeof(U32), ""); \
        return {exchange(mask, value, inside ? source : lane(), place.line), inside}; \
    }
SHUFFLE(bfly, lane() ^ (by & 31), source <= last)
SHUFFLE(idx, (lane() & segment) | (by & 31 & ~segment), source <= last)
SHUFFLE(down, lane() + (by & 31), source <= last)
SHUFFLE(up, lane() - (by & 31), source >= last)

// ---- copies that are under way --------------------------------------------------------------------------------------
static void ptx_cp_async_cg_shared_global(U32 to, U64 from, U32 bytes, U32 read, HERE) {
    if (bytes != COPIED || (read && read != COPIED))
        WRONG("%s:%d: a copy reads %u of %u bytes", place.file, place.line, read, bytes);
    start_copy(in_window(to, COPIED, place), read ? in_memory(from, COPIED, place) : nullptr);
}
static void ptx_cp_async_ca_shared_global(U32 to, U64 from, U32 bytes, U32 read, HERE) {
    ptx_cp_async_cg_shared_global(to, from, bytes, read, place);
}
static void ptx_cp_async_commit_group() { close_copy_group(); }
static void ptx_cp_async_wait_group(U32 pending) { land_copies(pending); }

// ---- a warp's matrices ----------------------------------------------------------------------------------------------
// Lane l hands the address of row l % 8 of matrix l / 8: 8 numbers of 16 bits. It gets, of row l / 4 of each matrix,
// numbers 2 (l % 4) and the next; with .trans, of column l / 4, those of rows 2 (l % 4) and the next.
template <bool TRANSPOSED> static std::array<U32, 4> load_matrices(U32 address, Place place) {
    const unsigned slot = hand_out(~0u, in_window(address, 16, place), place.line);
    const auto number = [&](int matrix, int row, int column) -> U32 {
        return *(const U16*)(handed_out<char*>(8 * matrix + row, slot) + 2 * column);
    };
    std::array<U32, 4> got;
    for (int m = 0; m < 4; ++m) {
        const int i = lane() / 4, j = lane() % 4 * 2;
        got[m] = TRANSPOSED ? number(m, j + 1, i) << 16 | number(m, j, i) : number(m, i, j + 1) << 16 | number(m, i, j);
    }
    return got;
}
template <class T> static std::array<U32, 4> ptx_ldmatrix_sync_aligned_m8n8_x4_shared(U32 address, HERE) {
    return load_matrices<false>(address, place);
}
template <class T> static std::array<U32, 4> ptx_ldmatrix_sync_aligned_m8n8_x4_trans_shared(U32 address, HERE) {
    return load_matrices<true>(address, place);
}

// d = a b + c, with a (16, K), b (K, 8), c and d (16, 8), all in registers of a warp's lanes. EACH numbers are in a
// 32-bit register, neighbours along K, and four lanes hold 4 EACH of them side by side.
template <int K, int EACH> static std::array<U32, 4> multiply_matrices(
    std::array<U32, 4> a, std::array<U32, 2> b, std::array<U32, 4> c, int line) {
    struct Held {
        U32 a[4], b[2];
    };
    const unsigned slot = hand_out(~0u, Held{{a[0], a[1], a[2], a[3]}, {b[0], b[1]}}, line);
    const auto number = [](U32 word, int k) {
        return as<F32>(EACH == 1 ? word & 0xffffe000 : word >> 16 * (k % 2) << 16);  // TF32 is cut, bf16 an upper half
    };
    std::array<U32, 4> d;
    for (int i = 0; i < 4; ++i) {
        const int row = lane() / 4 + 8 * (i / 2), column = 2 * (lane() % 4) + i % 2;
        float sum = as<F32>(c[i]);
        for (int k = 0; k < K; ++k) {
            const int holder = k / EACH % 4, half = k / (4 * EACH);
            const U32 left = handed_out<Held>(4 * (row % 8) + holder, slot).a[row / 8 + 2 * half];
            const U32 right = handed_out<Held>(4 * column + holder, slot).b[half];
            sum += number(left, k) * number(right, k);
        }
        d[i] = bits<F32>(sum);
    }
    return d;
}
struct TF32;
struct BF16;
template <class D, class A, class B, class C> static std::array<U32, 4> ptx_mma_sync_aligned_m16n8k8_row_col(
    std::array<U32, 4> a, std::array<U32, 2> b, std::array<U32, 4> c, HERE) {
    static_assert(std::is_same<std::tuple<D, A, B, C>, std::tuple<F32, TF32, TF32, F32>>::value, "");
    return multiply_matrices<8, 1>(a, b, c, place.line);
}
template <class D, class A, class B, class C> static std::array<U32, 4> ptx_mma_sync_aligned_m16n8k16_row_col(
    std::array<U32, 4> a, std::array<U32, 2> b, std::array<U32, 4> c, HERE) {
    static_assert(std::is_same<std::tuple<D, A, B, C>, std::tuple<F32, BF16, BF16, F32>>::value, "");
    return multiply_matrices<16, 2>(a, b, c, place.line);
}
