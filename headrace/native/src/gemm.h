// Products of float32 matrices on one thread, by kernels of our own for AVX-512.

#ifndef HEADRACE_NATIVE_GEMM_H_
#define HEADRACE_NATIVE_GEMM_H_

#include <cstdint>

namespace headrace {

// A matrix in memory: element (i, j) at data[i * row_stride + j * column_stride], one of the strides being 1.
struct MatrixView {
  const float* data;
  int64_t row_stride, column_stride;
};

// Whether this processor has what the kernels need.
bool HasGemm();

// out[rows, columns] = a[rows, inner] b[inner, columns]; rows of `out` lie `stride` apart.
void Gemm(int64_t rows, int64_t columns, int64_t inner, const MatrixView& a, const MatrixView& b, float* out,
          int64_t stride);

}  // namespace headrace

#endif  // HEADRACE_NATIVE_GEMM_H_
