#include "elementwise.h"

#include <immintrin.h>

#include <algorithm>
#include <cstring>

namespace headrace {
namespace {

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx2,fma")
#endif
namespace avx2 {
#define HEADRACE_LANES 8
#include "elementwise.inc"
#undef HEADRACE_LANES
}  // namespace avx2
#if defined(__clang__)
#pragma clang attribute pop
#pragma clang attribute push(__attribute__((target("avx512f,avx512dq,avx512vl,avx512bw,fma"))), apply_to = function)
#else
#pragma GCC pop_options
#pragma GCC push_options
#pragma GCC target("avx512f,avx512dq,avx512vl,avx512bw,fma")
#endif
namespace avx512 {
#define HEADRACE_LANES 16
#include "elementwise.inc"
#undef HEADRACE_LANES
}  // namespace avx512
#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif

constexpr int64_t kAlignment = 64;

}  // namespace

void ElementwiseProgram::Run(int64_t first, int64_t last, char* const* bases, const int64_t* scalars) const {
  // The lanes behind the end of a row are computed too, of whatever lies there: at first zeros.
  thread_local std::vector<float> memory;
  thread_local std::vector<const float*> at;
  const size_t needed = registers * kBlock + kAlignment / sizeof(float);
  if (memory.size() < needed) memory.resize(needed);
  if (at.size() < static_cast<size_t>(registers)) at.resize(registers);
  const auto address = reinterpret_cast<uintptr_t>(memory.data());
  float* blocks = memory.data() + (kAlignment - address % kAlignment) % kAlignment / sizeof(float);
  static const bool wide = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
                           __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512bw");
  (wide ? avx512::RunBlocks : avx2::RunBlocks)(*this, first, last, bases, scalars, blocks, at.data());
}

}  // namespace headrace
