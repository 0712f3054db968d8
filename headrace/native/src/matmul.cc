// Matrix products in float32: out = op(a) op(b), over any number of leading batch axes.

#include <dnnl.h>

#include <cstring>

#include "gemm.h"
#include "host_pool.h"
#include "parallel.h"

namespace headrace {
namespace {

namespace ffi = xla::ffi;

// Waking a thread of the pool costs a few microseconds; a chunk must be worth it (about 15 microseconds of work).
constexpr double kFlopsPerChunk = 3e6;
// More chunks than threads, for where one thread is held up.
constexpr int64_t kChunksPerThread = 2;
// The blocks of oneDNN's kernels and of ours: pieces of these sizes waste nothing.
struct Block {
  int64_t rows, columns;
};
constexpr Block kBlock{8, 48}, kGemmBlock{14, 32};
// Our own kernels are ahead where an operand is transposed or rows are far apart, in pieces in which packing is little
// beside the products. Each chunk packs for itself, so there are more than threads only where one would take 20 milliseconds.
constexpr int64_t kGemmRows = 448, kGemmColumns = 256, kGemmInner = 256;
constexpr int64_t kFarColumns = 1024, kFarInner = 1024;
constexpr double kFlopsPerGemmChunk = 4e9;

int64_t CeilDiv(int64_t a, int64_t b) { return (a + b - 1) / b; }

struct Product {
  int64_t rows, columns, inner;
  bool transpose_a, transpose_b;

  // Whether our own kernels are to compute pieces of this size.
  bool IsForGemm(int64_t n_rows, int64_t n_columns) const {
    if (n_rows < kGemmRows || n_columns < kGemmColumns || inner < kGemmInner || !HasGemm()) return false;
    return transpose_a || transpose_b || (columns >= kFarColumns && inner >= kFarInner);
  }

  // The piece of one product that begins at (row, column).
  void Compute(bool by_gemm, const float* a, const float* b, float* out, int64_t row, int64_t column, int64_t n_rows,
               int64_t n_columns) const {
    const int64_t stride_a = transpose_a ? rows : inner, stride_b = transpose_b ? inner : columns;
    if (by_gemm) {
      const MatrixView left{a + (transpose_a ? row : row * inner), transpose_a ? 1 : inner, transpose_a ? rows : 1};
      const MatrixView right{b + (transpose_b ? column * inner : column), transpose_b ? 1 : columns,
                             transpose_b ? inner : 1};
      Gemm(n_rows, n_columns, inner, left, right, out + row * columns + column, columns);
      return;
    }
    dnnl_sgemm(transpose_a ? 'T' : 'N', transpose_b ? 'T' : 'N', n_rows, n_columns, inner, 1.0f,
               a + (transpose_a ? row : row * inner), stride_a, b + (transpose_b ? column * inner : column), stride_b,
               0.0f, out + row * columns + column, columns);
  }
};

// How one product is cut: into pieces of `rows` by `columns`.
struct Cut {
  int64_t rows, columns, down, across;
};

Cut CutInto(const Product& p, int64_t pieces, const Block& block) {
  Cut best{p.rows, p.columns, 1, 1};
  double least = -1;
  for (int64_t down = 1; down <= pieces; ++down) {
    const int64_t across = pieces / down;
    const int64_t rows = CeilDiv(CeilDiv(p.rows, down), block.rows) * block.rows;
    const int64_t columns = CeilDiv(CeilDiv(p.columns, across), block.columns) * block.columns;
    const Cut cut{rows, columns, CeilDiv(p.rows, rows), CeilDiv(p.columns, columns)};
    // What is read, were each piece to read its operands once; too few pieces leave threads idle.
    const double read = static_cast<double>(cut.across) * p.rows + static_cast<double>(cut.down) * p.columns;
    const double cost = read * CeilDiv(pieces, cut.down * cut.across);
    if (least < 0 || cost < least) {
      least = cost;
      best = cut;
    }
  }
  return best;
}

// `batch` products that lie one behind the other, shared between the threads of the pool.
template <typename Pool>
void Multiply(Pool& pool, const Product& p, int64_t batch, const float* data_a, const float* data_b, float* data_out) {
  const int64_t size_a = p.rows * p.inner, size_b = p.inner * p.columns, size_out = p.rows * p.columns;
  const double flops = 2.0 * batch * size_out * p.inner;
  const int64_t threads = Threads(pool);
  const int64_t wanted =
      threads == 1 ? 1 : std::clamp<int64_t>(flops / kFlopsPerChunk, 1, threads * kChunksPerThread);
  if (batch >= wanted) {
    const bool by_gemm = p.IsForGemm(p.rows, p.columns);
    ForEachChunk(pool, wanted, [&](int64_t chunk) {
      for (int64_t i = batch * chunk / wanted; i < batch * (chunk + 1) / wanted; ++i) {
        p.Compute(by_gemm, data_a + i * size_a, data_b + i * size_b, data_out + i * size_out, 0, 0, p.rows, p.columns);
      }
    });
    return;
  }
  const int64_t few = threads * std::max<int64_t>(flops / (threads * kFlopsPerGemmChunk), 1);
  Cut cut = CutInto(p, CeilDiv(few, batch), kGemmBlock);
  const bool by_gemm = p.IsForGemm(cut.rows, cut.columns);
  if (!by_gemm) cut = CutInto(p, CeilDiv(wanted, batch), kBlock);
  const int64_t pieces = cut.down * cut.across;
  ForEachChunk(pool, batch * pieces, [&](int64_t chunk) {
    const int64_t i = chunk / pieces, piece = chunk % pieces;
    const int64_t row = piece / cut.across * cut.rows, column = piece % cut.across * cut.columns;
    p.Compute(by_gemm, data_a + i * size_a, data_b + i * size_b, data_out + i * size_out, row, column,
              std::min(cut.rows, p.rows - row), std::min(cut.columns, p.columns - column));
  });
}

ffi::Error Dot(ffi::ThreadPool pool, ffi::Buffer<ffi::F32> a, ffi::Buffer<ffi::F32> b,
               ffi::ResultBuffer<ffi::F32> out, bool transpose_a, bool transpose_b) {
  const auto dims_a = a.dimensions(), dims = out->dimensions();
  const size_t rank = dims.size();
  if (rank < 2 || dims_a.size() != rank || b.dimensions().size() != rank) {
    return ffi::Error::InvalidArgument("headrace_dot: operands of different ranks");
  }
  int64_t batch = 1;
  for (size_t i = 0; i + 2 < rank; ++i) batch *= dims[i];
  const Product p{dims[rank - 2], dims[rank - 1], dims_a[transpose_a ? rank - 2 : rank - 1], transpose_a, transpose_b};
  const int64_t size_out = p.rows * p.columns;
  if (batch * size_out == 0) return ffi::Error::Success();
  const float *data_a = a.typed_data(), *data_b = b.typed_data();
  float* data_out = out->typed_data();
  if (p.inner == 0) {
    std::memset(data_out, 0, batch * size_out * sizeof(float));
    return ffi::Error::Success();
  }

  Multiply(pool, p, batch, data_a, data_b, data_out);
  return ffi::Error::Success();
}

}  // namespace

// out = op(a) op(b), for arrays that no program of XLA has to do with.
extern "C" __attribute__((visibility("default"))) void headrace_host_dot(const float* a, const float* b, float* out,
                                                                         int64_t batch, int64_t rows, int64_t columns,
                                                                         int64_t inner, int64_t transpose_a,
                                                                         int64_t transpose_b) {
  const Product p{rows, columns, inner, transpose_a != 0, transpose_b != 0};
  Multiply(HostPool::Get(), p, batch, a, b, out);
}

HEADRACE_HANDLER(headrace_dot, Dot,
                              ffi::Ffi::Bind()
                                  .Ctx<ffi::ThreadPool>()
                                  .Arg<ffi::Buffer<ffi::F32>>()
                                  .Arg<ffi::Buffer<ffi::F32>>()
                                  .Ret<ffi::Buffer<ffi::F32>>()
                                  .Attr<bool>("transpose_a")
                                  .Attr<bool>("transpose_b"));

}  // namespace headrace
