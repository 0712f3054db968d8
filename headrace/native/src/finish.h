// What follows a convolution in the same call: a factor and a shift for each channel, a sum with other images, bounds.

#ifndef HEADRACE_NATIVE_FINISH_H_
#define HEADRACE_NATIVE_FINISH_H_

#include <cstdint>

namespace headrace {

// y = min(max(y scale + shift + residual, lowest), highest); a NaN stays one. Null pointers: there is no such term.
struct Finish {
  const float* scale = nullptr;
  const float* shift = nullptr;
  const float* residual = nullptr;  // as y
  float lowest, highest;

  // `y` [rows, channels]: the part of the images that begins at their element `offset`.
  void Apply(float* y, int64_t offset, int64_t rows, int64_t channels) const;
};

}  // namespace headrace

#endif  // HEADRACE_NATIVE_FINISH_H_
