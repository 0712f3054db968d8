// Products with a matrix that many products share, which is brought into the kernels' own order once (float32).

#ifndef HEADRACE_NATIVE_PACKED_H_
#define HEADRACE_NATIVE_PACKED_H_

#include <algorithm>
#include <cstdint>
#include <memory>
#include <vector>

namespace headrace {

struct PackedKernel;

// out[rows, columns] = a[rows, inner] b[inner, columns], with the columns of `b` cut into pieces: each is packed for itself.
class PackedProduct {
 public:
  PackedProduct(int64_t rows, int64_t inner, int64_t columns, int64_t pieces);

  int64_t Pieces() const { return count_; }
  // How many floats the packed matrix takes.
  int64_t Floats() const;
  // Packs one piece of `b`, whose rows and columns lie these numbers of elements apart, into its place in `packed`.
  void Pack(int64_t piece, const float* b, int64_t row_stride, int64_t column_stride, float* packed) const;
  // Computes one piece of the product. To be called inside a OneThread.
  void Run(int64_t piece, const float* a, const float* packed, float* out) const;

 private:
  int64_t WidthOf(int64_t piece) const { return std::min(width_, columns_ - piece * width_); }
  const PackedKernel& KernelOf(int64_t piece) const { return piece == count_ - 1 ? *last_ : *whole_; }

  int64_t columns_, width_, count_, floats_;
  std::shared_ptr<const PackedKernel> whole_, last_;
};

}  // namespace headrace

#endif  // HEADRACE_NATIVE_PACKED_H_
