#include "finish.h"

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx2,fma")
#endif

namespace headrace {

void Finish::Apply(float* y, int64_t offset, int64_t rows, int64_t channels) const {
  const float *const factors = scale, *const shifts = shift, low = lowest, high = highest;
  const float* others = residual ? residual + offset : nullptr;
  for (int64_t i = 0; i < rows; ++i) {
    float* __restrict row = y + i * channels;
    const float* __restrict other = others ? others + i * channels : nullptr;
    // The compiler makes a loop without branches of each combination.
    for (int64_t c = 0; c < channels; ++c) {
      float v = row[c];
      if (factors) v *= factors[c];
      if (shifts) v += shifts[c];
      if (other) v += other[c];
      v = low > v ? low : v;
      row[c] = high < v ? high : v;
    }
  }
}

}  // namespace headrace

#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif
