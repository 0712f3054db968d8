// Uniform and normal numbers from the Philox stream (see lowering/philox.py and lowering/random.py, whose arithmetic this
// is), eight blocks at a time: needs AVX-512.

#include <immintrin.h>

#include <cmath>
#include <cstring>

#include "host_pool.h"
#include "parallel.h"

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx512f,avx512dq,avx512vl,fma"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx512f,avx512dq,avx512vl,fma")
#endif

namespace headrace {
namespace {

constexpr int kRounds = 10;
constexpr int64_t kPerBlock = 4, kLanes = 8, kPerGroup = kPerBlock * kLanes;

struct Stream {
  __m512i key0[kRounds], key1[kRounds];
  uint64_t low, high, stride;

  Stream(const uint32_t* state, uint64_t stride) : stride(stride) {
    uint32_t k0 = state[0], k1 = state[1];
    for (int r = 0; r < kRounds; ++r, k0 += 0x9E3779B9u, k1 += 0xBB67AE85u) {
      key0[r] = _mm512_set1_epi64(k0);
      key1[r] = _mm512_set1_epi64(k1);
    }
    low = state[2] | static_cast<uint64_t>(state[3]) << 32;
    high = state[4] | static_cast<uint64_t>(state[5]) << 32;
  }

  // The words of blocks 8 * group to 8 * group + 7, one block in each lane; above 32 bits anything.
  inline void Words(uint64_t group, __m512i words[4]) const {
    const __m512i lane = _mm512_set_epi64(7, 6, 5, 4, 3, 2, 1, 0);
    const __m512i step = _mm512_mullo_epi64(lane, _mm512_set1_epi64(stride));
    const __m512i base = _mm512_set1_epi64(low);
    const __m512i first = _mm512_add_epi64(base, _mm512_add_epi64(_mm512_set1_epi64(group * kLanes * stride), step));
    const __mmask8 carried = _mm512_cmplt_epu64_mask(first, base);
    const __m512i top = _mm512_set1_epi64(high);
    const __m512i second = _mm512_mask_add_epi64(top, carried, top, _mm512_set1_epi64(1));
    __m512i c0 = first, c1 = _mm512_srli_epi64(first, 32), c2 = second, c3 = _mm512_srli_epi64(second, 32);
    const __m512i m0 = _mm512_set1_epi64(0xD2511F53), m1 = _mm512_set1_epi64(0xCD9E8D57);
    for (int r = 0; r < kRounds; ++r) {
      const __m512i p0 = _mm512_mul_epu32(c0, m0), p1 = _mm512_mul_epu32(c2, m1);
      c0 = _mm512_xor_si512(_mm512_xor_si512(_mm512_srli_epi64(p1, 32), c1), key0[r]);
      c2 = _mm512_xor_si512(_mm512_xor_si512(_mm512_srli_epi64(p0, 32), c3), key1[r]);
      c1 = p1;
      c3 = p0;
    }
    words[0] = c0, words[1] = c1, words[2] = c2, words[3] = c3;
  }
};

inline __m512d Set(double x) { return _mm512_set1_pd(x); }

inline __m512d Round32(__m512d x) { return _mm512_cvtps_pd(_mm512_cvtpd_ps(x)); }

template <size_t n>
inline __m512d Polynomial(__m512d x, const double (&coefficients)[n]) {
  __m512d value = Set(coefficients[n - 1]);
  for (size_t i = n - 1; i-- > 0;) value = _mm512_fmadd_pd(value, x, Set(coefficients[i]));
  return value;
}

constexpr double kLog1pOverX[] = {
    0.9999999999858771,   -0.5000000002882408,  0.33333334338477116, -0.24999994197377412, 0.1999988075480308,
    -0.16666936656288683, 0.1429099582493979,   -0.12497648847113184, 0.11005071520432493, -0.09921063511045573,
    0.10031801918771478,  -0.09908106983634325, 0.05372976474365345};
constexpr double kSinOverX[] = {0.9999999999956751, -0.1666666663159932, 0.008333328782898318, -0.0001983920226810245,
                                2.7173456641495986e-06};
constexpr double kCos[] = {0.9999999999999448,    -0.49999999999350614,  0.041666666543843184,
                           -0.001388888039029297, 2.4798928024181734e-05, -2.7173376389398616e-07};

inline __m512d Log(__m512d x) {
  const __m512i sqrt_half = _mm512_castpd_si512(Set(0.70710678118654757));
  const __m512i bits = _mm512_castpd_si512(x);
  const __m512i exponent = _mm512_srai_epi64(_mm512_sub_epi64(bits, sqrt_half), 52);
  const __m512d mantissa =
      _mm512_sub_pd(_mm512_castsi512_pd(_mm512_sub_epi64(bits, _mm512_slli_epi64(exponent, 52))), Set(1.0));
  const __m512d rest = _mm512_mul_pd(mantissa, Polynomial(mantissa, kLog1pOverX));
  return _mm512_fmadd_pd(_mm512_cvtepi64_pd(exponent), Set(0.69314718055994529), rest);
}

inline void SineAndCosine(__m512d angle, __m512d* sine, __m512d* cosine) {
  const __m512d quarter = _mm512_roundscale_pd(_mm512_fmadd_pd(angle, Set(0.63661977236758138), Set(0.5)),
                                               _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC);
  const __m512d rest = _mm512_fnmadd_pd(quarter, Set(1.5707963267948966), angle);
  const __m512d square = _mm512_mul_pd(rest, rest);
  const __m512d s = _mm512_mul_pd(rest, Polynomial(square, kSinOverX)), c = Polynomial(square, kCos);
  const __mmask8 first = _mm512_cmp_pd_mask(quarter, Set(1.0), _CMP_EQ_OQ);
  const __mmask8 second = _mm512_cmp_pd_mask(quarter, Set(2.0), _CMP_EQ_OQ);
  const __mmask8 third = _mm512_cmp_pd_mask(quarter, Set(3.0), _CMP_EQ_OQ);
  const __mmask8 swap = first | third;
  const __m512d sign = Set(-0.0), a = _mm512_mask_mov_pd(s, swap, c), b = _mm512_mask_mov_pd(c, swap, s);
  *sine = _mm512_mask_xor_pd(a, second | third, a, sign);
  *cosine = _mm512_mask_xor_pd(b, first | second, b, sign);
}

// A float32 uniform in [0, 1), as a float64.
inline __m512d Uniform64(__m512i word) {
  const __m512i mantissa = _mm512_slli_epi64(_mm512_and_si512(word, _mm512_set1_epi64(0x7FFFFF)), 29);
  const __m512i one = _mm512_castpd_si512(Set(1.0));
  return _mm512_sub_pd(_mm512_castsi512_pd(_mm512_or_si512(mantissa, one)), Set(1.0));
}

// Box and Muller's method: two normals from two words.
inline void Normals(__m512i x, __m512i y, __m256* low, __m256* high) {
  const __m512d u = _mm512_max_pd(Uniform64(x), Set(static_cast<double>(1e-7f)));
  const __m512d radius = Round32(_mm512_sqrt_pd(_mm512_mul_pd(Set(-2.0), Round32(Log(u)))));
  __m512d sine, cosine;
  SineAndCosine(Round32(_mm512_mul_pd(Set(6.2831853071795862), Uniform64(y))), &sine, &cosine);
  *low = _mm512_cvtpd_ps(_mm512_mul_pd(Round32(sine), radius));
  *high = _mm512_cvtpd_ps(_mm512_mul_pd(Round32(cosine), radius));
}

inline __m256 Uniforms(__m512i word) {
  const __m256i mantissa = _mm256_and_si256(_mm512_cvtepi64_epi32(word), _mm256_set1_epi32(0x7FFFFF));
  const __m256i bits = _mm256_or_si256(mantissa, _mm256_set1_epi32(0x3F800000));
  return _mm256_sub_ps(_mm256_castsi256_ps(bits), _mm256_set1_ps(1.0f));
}

// Four numbers of each of eight blocks, block after block.
inline void Store(float* out, const __m256 n[4]) {
  const __m256d a = _mm256_castps_pd(_mm256_unpacklo_ps(n[0], n[1])), b = _mm256_castps_pd(_mm256_unpackhi_ps(n[0], n[1]));
  const __m256d c = _mm256_castps_pd(_mm256_unpacklo_ps(n[2], n[3])), d = _mm256_castps_pd(_mm256_unpackhi_ps(n[2], n[3]));
  const __m256 r0 = _mm256_castpd_ps(_mm256_unpacklo_pd(a, c)), r1 = _mm256_castpd_ps(_mm256_unpackhi_pd(a, c));
  const __m256 r2 = _mm256_castpd_ps(_mm256_unpacklo_pd(b, d)), r3 = _mm256_castpd_ps(_mm256_unpackhi_pd(b, d));
  _mm256_storeu_ps(out, _mm256_permute2f128_ps(r0, r1, 0x20));
  _mm256_storeu_ps(out + 8, _mm256_permute2f128_ps(r2, r3, 0x20));
  _mm256_storeu_ps(out + 16, _mm256_permute2f128_ps(r0, r1, 0x31));
  _mm256_storeu_ps(out + 24, _mm256_permute2f128_ps(r2, r3, 0x31));
}

template <bool normal>
void Group(const Stream& stream, uint64_t group, float* out) {
  __m512i words[4];
  __m256 numbers[4];
  stream.Words(group, words);
  if (normal) {
    Normals(words[0], words[1], &numbers[0], &numbers[1]);
    Normals(words[2], words[3], &numbers[2], &numbers[3]);
  } else {
    for (int i = 0; i < 4; ++i) numbers[i] = Uniforms(words[i]);
  }
  Store(out, numbers);
}

template <bool normal>
void Fill(const uint32_t* state, uint64_t stride, int64_t begin, int64_t end, int64_t size, float* out) {
  const Stream stream(state, stride);
  for (int64_t group = begin; group < end; ++group) {
    const int64_t at = group * kPerGroup, left = size - at;
    if (left >= kPerGroup) {
      Group<normal>(stream, group, out + at);
    } else {
      alignas(32) float last[kPerGroup];
      Group<normal>(stream, group, last);
      std::memcpy(out + at, last, left * sizeof(float));
    }
  }
}

// Of each group of four that has one at `most` or beyond: the first four in range of it and of the blocks that follow its own.
void Truncate(const uint32_t* state, uint64_t stride, int64_t begin, int64_t end, float most, float* out) {
  const Stream origin(state, 1);
  for (int64_t group = begin; group < end; ++group) {
    float* numbers = out + group * kPerBlock;
    int64_t kept = 0;
    for (int64_t i = 0; i < kPerBlock; ++i) {
      if (std::fabs(numbers[i]) < most) numbers[kept++] = numbers[i];
    }
    if (kept == kPerBlock) continue;
    Stream stream = origin;
    stream.low += group * stride + 1;
    stream.high += stream.low < origin.low;
    for (uint64_t more = 0; kept < kPerBlock; ++more) {
      alignas(32) float drawn[kPerGroup];
      Group<true>(stream, more, drawn);
      for (int64_t i = 0; i < kPerGroup && kept < kPerBlock; ++i) {
        if (std::fabs(drawn[i]) < most) numbers[kept++] = drawn[i];
      }
    }
  }
}

}  // namespace
}  // namespace headrace

#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif

namespace headrace {
namespace {

namespace ffi = xla::ffi;

// Groups that are worth waking a thread for.
constexpr int64_t kGroupsPerChunk = 512;
constexpr int64_t kChunksPerThread = 4;

template <typename Pool>
void Generate(Pool& pool, const uint32_t* state, bool normal, int64_t stride, int64_t size, float* out) {
  const int64_t groups = (size + kPerGroup - 1) / kPerGroup;
  const int64_t chunks = std::clamp<int64_t>(groups / kGroupsPerChunk, 1, Threads(pool) * kChunksPerThread);
  ForEachChunk(pool, size ? chunks : 0, [&](int64_t i) {
    const auto fill = normal ? Fill<true> : Fill<false>;
    fill(state, stride, groups * i / chunks, groups * (i + 1) / chunks, size, out);
  });
}

ffi::Error Random(ffi::ThreadPool pool, ffi::Buffer<ffi::U32> state, ffi::ResultBuffer<ffi::F32> out, bool normal,
                  int64_t stride) {
  if (state.element_count() != 6) return ffi::Error::InvalidArgument("headrace_random: a state has six words");
  Generate(pool, state.typed_data(), normal, stride, out->element_count(), out->typed_data());
  return ffi::Error::Success();
}

}  // namespace

HEADRACE_HANDLER(headrace_random, Random,
                 ffi::Ffi::Bind()
                     .Ctx<ffi::ThreadPool>()
                     .Arg<ffi::Buffer<ffi::U32>>()
                     .Ret<ffi::Buffer<ffi::F32>>()
                     .Attr<bool>("normal")
                     .Attr<int64_t>("stride"));

// The same numbers for an array that no program of XLA has to do with.
extern "C" __attribute__((visibility("default"))) void headrace_host_random(const uint32_t* state, float* out,
                                                                            int64_t size, int64_t normal,
                                                                            int64_t stride) {
  Generate(HostPool::Get(), state, normal != 0, stride, size, out);
}

// Normal numbers less than `most` from 0, four from each of `groups` stretches of `stride` blocks.
extern "C" __attribute__((visibility("default"))) void headrace_host_truncated(const uint32_t* state, float* out,
                                                                               int64_t groups, int64_t stride,
                                                                               double most) {
  HostPool& pool = HostPool::Get();
  Generate(pool, state, true, stride, groups * kPerBlock, out);
  const int64_t chunks = std::clamp<int64_t>(groups / (kGroupsPerChunk * kLanes), 1, Threads(pool) * kChunksPerThread);
  ForEachChunk(pool, chunks, [&](int64_t i) {
    Truncate(state, stride, groups * i / chunks, groups * (i + 1) / chunks, static_cast<float>(most), out);
  });
}

// Whether the processor has the instructions that are used here.
extern "C" __attribute__((visibility("default"))) int headrace_has_random() {
  __builtin_cpu_init();
  return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
         __builtin_cpu_supports("fma");
}

}  // namespace headrace
