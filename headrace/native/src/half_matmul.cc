// Matrix products of bfloat16, summed in float32: out = op(a) op(b), over any number of leading batch axes.
//
// Worth it where the processor multiplies tiles (AMX): seven times as fast as float32 on one core. With AVX-512's own
// instructions for bfloat16 it is slower than float32, and Python does not come here.
//
// oneDNN's kernels for tiles want matrices without gaps. A product is cut by the rows of `out`, or where these are few by
// its columns; what of an operand is not in one piece then is copied first, and results to where they belong.

#include <array>
#include <atomic>
#include <cstring>

#include "host_pool.h"
#include "onednn.h"
#include "parallel.h"
#include "recent.h"
#include "workspace.h"

namespace headrace {
namespace {

namespace ffi = xla::ffi;
using dnnl::memory;

// A piece must be worth waking a thread for (about 15 microseconds of work).
constexpr double kFlopsPerPiece = 2e7;
// Each piece brings the whole of the other operand into the order of tiles: it must have that many rows, or columns.
constexpr int64_t kLeastRows = 64, kLeastColumns = 256;
// Where pieces are larger than this, more of them than threads, for where one thread is held up.
constexpr int64_t kManyRows = 512;
constexpr int64_t kTile = 32;
// Kernels that are kept; a program has some dozens.
constexpr size_t kMostKernels = 256;
constexpr int64_t kBytes = 2;

int64_t CeilDiv(int64_t a, int64_t b) { return (a + b - 1) / b; }

// `batch` products that lie one behind the other, without gaps.
struct HalfProduct {
  int64_t batch, rows, columns, inner;
  bool transpose_a, transpose_b;

  double Flops() const { return 2.0 * batch * rows * columns * inner; }
};

struct Kernel {
  dnnl::matmul primitive;
  memory::desc a, b, out, scratch;
};

std::shared_ptr<const Kernel> FindKernel(const HalfProduct& p) {
  using Key = std::array<int64_t, 6>;
  static auto* kernels = new Recent<Key, Kernel>(kMostKernels);
  return kernels->Find({p.batch, p.rows, p.columns, p.inner, p.transpose_a, p.transpose_b}, [&] {
    const auto describe = [&](int64_t rows, int64_t columns, bool transpose) {
      const memory::dims dims{p.batch, rows, columns};
      const memory::dims strides =
          transpose ? memory::dims{rows * columns, 1, rows} : memory::dims{rows * columns, columns, 1};
      return memory::desc(dims, memory::data_type::bf16, strides);
    };
    const auto a = describe(p.rows, p.inner, p.transpose_a), b = describe(p.inner, p.columns, p.transpose_b);
    const auto out = describe(p.rows, p.columns, false);
    dnnl::primitive_attr attr;
    attr.set_scratchpad_mode(dnnl::scratchpad_mode::user);
    const dnnl::matmul::primitive_desc description(Engine(), a, b, out, attr);
    return std::make_shared<const Kernel>(
        Kernel{dnnl::matmul(description), a, b, out, description.scratchpad_desc()});
  });
}

void Compute(const HalfProduct& p, const char* a, const char* b, char* out) {
  const auto kernel = FindKernel(p);
  Workspace scratch(kernel->scratch.get_size());
  const memory data_a(kernel->a, Engine(), const_cast<char*>(a)), data_b(kernel->b, Engine(), const_cast<char*>(b));
  const memory data_out(kernel->out, Engine(), out), data_scratch(kernel->scratch, Engine(), scratch.data());
  const dnnl_exec_arg_t arguments[] = {{DNNL_ARG_SRC, data_a.get()},
                                       {DNNL_ARG_WEIGHTS, data_b.get()},
                                       {DNNL_ARG_DST, data_out.get()},
                                       {DNNL_ARG_SCRATCHPAD, data_scratch.get()}};
  dnnl::error::wrap_c_api(dnnl_primitive_execute(kernel->primitive.get(), Stream().get(), 4, arguments),
                          "a product failed");
}

// Copies `rows` rows of `columns` numbers, which lie these numbers of elements apart.
void CopyBlock(const char* from, int64_t from_stride, char* to, int64_t to_stride, int64_t rows, int64_t columns) {
  for (int64_t i = 0; i < rows; ++i) {
    std::memcpy(to + kBytes * i * to_stride, from + kBytes * i * from_stride, kBytes * columns);
  }
}

// Rows [begin, begin + count) of one product.
void ComputeRows(const HalfProduct& p, int64_t begin, int64_t count, const char* a, const char* b, char* out) {
  HalfProduct piece = p;
  piece.rows = count;
  out += kBytes * begin * p.columns;
  if (!p.transpose_a) return Compute(piece, a + kBytes * begin * p.inner, b, out);
  Workspace block(kBytes * p.inner * count);
  CopyBlock(a + kBytes * begin, p.rows, static_cast<char*>(block.data()), count, p.inner, count);
  Compute(piece, static_cast<char*>(block.data()), b, out);
}

// Columns [begin, begin + count) of one product.
void ComputeColumns(const HalfProduct& p, int64_t begin, int64_t count, const char* a, const char* b, char* out) {
  HalfProduct piece = p;
  piece.columns = count;
  Workspace result(kBytes * p.rows * count), block(p.transpose_b ? 0 : kBytes * p.inner * count);
  char *result_data = static_cast<char*>(result.data()), *block_data = static_cast<char*>(block.data());
  if (!p.transpose_b) CopyBlock(b + kBytes * begin, p.columns, block_data, count, p.inner, count);
  Compute(piece, a, p.transpose_b ? b + kBytes * begin * p.inner : block_data, result_data);
  CopyBlock(result_data, count, out + kBytes * begin, p.columns, p.rows, count);
}

// False where there is no kernel.
template <typename Pool>
bool Multiply(Pool& pool, const HalfProduct& p, const char* a, const char* b, char* out) {
  if (p.batch * p.rows * p.columns == 0) return true;
  const int64_t size_a = kBytes * p.rows * p.inner, size_b = kBytes * p.inner * p.columns;
  const int64_t size_out = kBytes * p.rows * p.columns;
  if (p.inner == 0) {
    std::memset(out, 0, p.batch * size_out);
    return true;
  }
  const int64_t threads = Threads(pool);
  const int64_t wanted = threads == 1 ? 1 : std::clamp<int64_t>(p.Flops() / kFlopsPerPiece, 1, 2 * threads);
  std::atomic<bool> failed{false};
  const auto for_each = [&](int64_t count, const auto& compute) {
    ForEachChunk(pool, count, [&](int64_t i) {
      try {
        compute(i);
      } catch (const std::exception&) {  // must not leave a thread of the pool
        failed = true;
      }
    });
  };
  if (p.batch >= std::min(wanted, threads)) {
    const int64_t pieces = std::min(p.batch, wanted);
    for_each(pieces, [&](int64_t i) {
      const int64_t first = p.batch * i / pieces;
      HalfProduct piece = p;
      piece.batch = p.batch * (i + 1) / pieces - first;
      Compute(piece, a + first * size_a, b + first * size_b, out + first * size_out);
    });
    return !failed;
  }
  HalfProduct one = p;
  one.batch = 1;
  const int64_t most = p.rows / threads < kManyRows ? threads : 2 * threads;
  const int64_t parts = CeilDiv(std::min(wanted, most), p.batch);
  const bool by_rows = p.rows >= parts * kLeastRows || p.rows >= p.columns;
  const int64_t whole = by_rows ? p.rows : p.columns, least = by_rows ? kLeastRows : kLeastColumns;
  const int64_t size = CeilDiv(std::max(CeilDiv(whole, parts), least), kTile) * kTile;
  const int64_t pieces = CeilDiv(whole, size);
  for_each(p.batch * pieces, [&](int64_t i) {
    const int64_t which = i / pieces, begin = i % pieces * size, count = std::min(size, whole - begin);
    const char *this_a = a + which * size_a, *this_b = b + which * size_b;
    char* this_out = out + which * size_out;
    if (pieces == 1) {
      Compute(one, this_a, this_b, this_out);
    } else if (by_rows) {
      ComputeRows(one, begin, count, this_a, this_b, this_out);
    } else {
      ComputeColumns(one, begin, count, this_a, this_b, this_out);
    }
  });
  return !failed;
}

ffi::Error HalfDot(ffi::ThreadPool pool, ffi::Buffer<ffi::BF16> a, ffi::Buffer<ffi::BF16> b,
                   ffi::ResultBuffer<ffi::BF16> out, bool transpose_a, bool transpose_b) {
  const auto dims_a = a.dimensions(), dims = out->dimensions();
  const size_t rank = dims.size();
  if (rank < 2 || dims_a.size() != rank || b.dimensions().size() != rank) {
    return ffi::Error::InvalidArgument("headrace_half_dot: operands of different ranks");
  }
  int64_t batch = 1;
  for (size_t i = 0; i + 2 < rank; ++i) batch *= dims[i];
  const HalfProduct p{batch,       dims[rank - 2], dims[rank - 1], dims_a[transpose_a ? rank - 2 : rank - 1],
                      transpose_a, transpose_b};
  if (!Multiply(pool, p, static_cast<const char*>(a.untyped_data()), static_cast<const char*>(b.untyped_data()),
                static_cast<char*>(out->untyped_data()))) {
    return ffi::Error::Internal("headrace_half_dot: oneDNN has no kernel for bfloat16 on this processor");
  }
  return ffi::Error::Success();
}

}  // namespace

// Whether bfloat16 is faster than float32 here.
extern "C" __attribute__((visibility("default"))) int headrace_has_half() {
  const int isa = dnnl_get_effective_cpu_isa();
  return (isa & dnnl_cpu_isa_avx512_core_amx) == dnnl_cpu_isa_avx512_core_amx;
}

// out = op(a) op(b) of bfloat16, for arrays that no program of XLA has to do with.
extern "C" __attribute__((visibility("default"))) int headrace_host_half_dot(const char* a, const char* b, char* out,
                                                                             int64_t batch, int64_t rows,
                                                                             int64_t columns, int64_t inner,
                                                                             int64_t transpose_a, int64_t transpose_b) {
  const HalfProduct p{batch, rows, columns, inner, transpose_a != 0, transpose_b != 0};
  return Multiply(HostPool::Get(), p, a, b, out);
}

HEADRACE_HANDLER(headrace_half_dot, HalfDot,
                 ffi::Ffi::Bind()
                     .Ctx<ffi::ThreadPool>()
                     .Arg<ffi::Buffer<ffi::BF16>>()
                     .Arg<ffi::Buffer<ffi::BF16>>()
                     .Ret<ffi::Buffer<ffi::BF16>>()
                     .Attr<bool>("transpose_a")
                     .Attr<bool>("transpose_b"));

}  // namespace headrace
