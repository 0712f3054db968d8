#include "packed.h"

#include <map>
#include <mutex>
#include <tuple>
#include <unordered_map>
#include <utility>

#include "host_pool.h"
#include "onednn.h"
#include "parallel.h"

namespace headrace {

using dnnl::memory;

// out[rows, columns] = a[rows, inner] b[inner, columns], where rows of `out` lie further apart and `b` is packed.
struct PackedKernel {
  dnnl::matmul::primitive_desc description;
  dnnl::matmul primitive;
  memory::desc left, packed, result, scratch;

  int64_t Floats() const;
};

namespace {

namespace ffi = xla::ffi;

// The kernels' own block of columns.
constexpr int64_t kColumns = 64;
constexpr int64_t kAlignment = 64;
// Kernels that are kept; a program has a handful.
constexpr size_t kMostKernels = 256;

std::shared_ptr<const PackedKernel> FindKernel(int64_t rows, int64_t inner, int64_t columns, int64_t stride) {
  using Key = std::tuple<int64_t, int64_t, int64_t, int64_t>;
  static auto* kernels = new std::map<Key, std::shared_ptr<const PackedKernel>>;
  static auto* mutex = new std::mutex;
  const Key key{rows, inner, columns, stride};
  std::lock_guard<std::mutex> lock(*mutex);
  auto& found = (*kernels)[key];
  if (!found) {
    OneThread one;
    dnnl::primitive_attr attr;
    attr.set_scratchpad_mode(dnnl::scratchpad_mode::user);
    const auto f32 = memory::data_type::f32;
    dnnl::matmul::primitive_desc description(
        Engine(), memory::desc({rows, inner}, f32, memory::dims{inner, 1}),
        memory::desc({inner, columns}, f32, memory::format_tag::any),
        memory::desc({rows, columns}, f32, memory::dims{stride, 1}), attr);
    auto kernel = std::make_shared<PackedKernel>(
        PackedKernel{description, dnnl::matmul(description), description.src_desc(), description.weights_desc(),
                     description.dst_desc(), description.scratchpad_desc()});
    if (kernels->size() > kMostKernels) {
      kernels->clear();
      return (*kernels)[key] = kernel;
    }
    found = kernel;
  }
  return found;
}

char* Scratch(size_t size) {
  thread_local std::vector<char> buffer;
  if (buffer.size() < size + kAlignment) buffer.resize(size + kAlignment);
  const auto address = reinterpret_cast<uintptr_t>(buffer.data());
  return buffer.data() + (kAlignment - address % kAlignment) % kAlignment;
}

}  // namespace

int64_t PackedKernel::Floats() const {
  const int64_t size = packed.get_size();
  return (size + kAlignment - 1) / kAlignment * kAlignment / static_cast<int64_t>(sizeof(float));
}

PackedProduct::PackedProduct(int64_t rows, int64_t inner, int64_t columns, int64_t pieces)
    : columns_(columns),
      width_(std::max<int64_t>((columns + pieces - 1) / pieces + kColumns - 1, kColumns) / kColumns * kColumns),
      count_((columns + width_ - 1) / width_),
      whole_(FindKernel(rows, inner, WidthOf(0), columns)),
      last_(FindKernel(rows, inner, WidthOf(count_ - 1), columns)) {
  floats_ = whole_->Floats();
}

int64_t PackedProduct::Floats() const { return floats_ * (count_ - 1) + last_->Floats(); }

void PackedProduct::Pack(int64_t piece, const float* b, int64_t row_stride, int64_t column_stride,
                         float* packed) const {
  const PackedKernel& kernel = KernelOf(piece);
  memory::desc plain(kernel.packed.get_dims(), memory::data_type::f32, memory::dims{row_stride, column_stride});
  memory source(plain, Engine(), const_cast<float*>(b) + piece * width_ * column_stride);
  memory target(kernel.packed, Engine(), packed + piece * floats_);
  dnnl::reorder(source, target).execute(Stream(), source, target);
}

namespace {

// The arguments of one kernel in one thread: making them anew takes longer than a small product.
struct Call {
  explicit Call(const PackedKernel& kernel)
      : source(kernel.left, Engine(), nullptr), weights(kernel.packed, Engine(), nullptr),
        target(kernel.result, Engine(), nullptr), scratch(kernel.scratch, Engine(), nullptr),
        arguments{{DNNL_ARG_SRC, source},
                  {DNNL_ARG_WEIGHTS, weights},
                  {DNNL_ARG_DST, target},
                  {DNNL_ARG_SCRATCHPAD, scratch}} {}
  memory source, weights, target, scratch;
  std::unordered_map<int, memory> arguments;
};

Call& CallOf(const std::shared_ptr<const PackedKernel>& kernel) {
  using Entry = std::pair<std::shared_ptr<const PackedKernel>, std::unique_ptr<Call>>;
  thread_local std::vector<Entry> calls;  // a handful: looking through them is quick
  for (auto& [of, call] : calls) {
    if (of == kernel) return *call;
  }
  if (calls.size() > kMostKernels) calls.clear();
  calls.emplace_back(kernel, std::make_unique<Call>(*kernel));
  return *calls.back().second;
}

}  // namespace

void PackedProduct::Run(int64_t piece, const float* a, const float* packed, float* out) const {
  const auto& kernel = piece == count_ - 1 ? last_ : whole_;
  Call& call = CallOf(kernel);
  call.source.set_data_handle(const_cast<float*>(a));
  call.weights.set_data_handle(const_cast<float*>(packed) + piece * floats_);
  call.target.set_data_handle(out + piece * width_);
  call.scratch.set_data_handle(Scratch(kernel->scratch.get_size()));
  kernel->primitive.execute(Stream(), call.arguments);
}

namespace {

template <typename Pool>
void PackAll(Pool& pool, const PackedProduct& product, const float* b, int64_t inner, int64_t columns, bool transpose,
             float* out) {
  ForEachChunk(pool, product.Pieces(), [&](int64_t i) {
    product.Pack(i, b, transpose ? 1 : columns, transpose ? inner : 1, out);
  });
}

ffi::Error Pack(ffi::ThreadPool pool, ffi::Buffer<ffi::F32> b, ffi::ResultBuffer<ffi::F32> out, int64_t rows,
                int64_t pieces, bool transpose) {
  const auto dims = b.dimensions();
  if (dims.size() != 2) return ffi::Error::InvalidArgument("headrace_pack: the operand is no matrix");
  const int64_t inner = dims[transpose ? 1 : 0], columns = dims[transpose ? 0 : 1];
  const PackedProduct product(rows, inner, columns, pieces);
  if (product.Floats() != static_cast<int64_t>(out->element_count())) {
    return ffi::Error::InvalidArgument("headrace_pack: a result of another size");
  }
  PackAll(pool, product, b.typed_data(), inner, columns, transpose, out->typed_data());
  return ffi::Error::Success();
}

ffi::Error PackedDot(ffi::ThreadPool pool, ffi::Buffer<ffi::F32> a, ffi::Buffer<ffi::F32> packed,
                     ffi::ResultBuffer<ffi::F32> out, int64_t pieces) {
  const auto dims = a.dimensions();
  if (dims.size() != 2 || out->dimensions().size() != 2) {
    return ffi::Error::InvalidArgument("headrace_packed_dot: an operand is no matrix");
  }
  const PackedProduct product(dims[0], dims[1], out->dimensions()[1], pieces);
  if (product.Floats() != static_cast<int64_t>(packed.element_count())) {
    return ffi::Error::InvalidArgument("headrace_packed_dot: a matrix that was packed for another product");
  }
  float *left = a.typed_data(), *right = packed.typed_data(), *result = out->typed_data();
  ForEachChunk(pool, product.Pieces(), [&](int64_t i) { product.Run(i, left, right, result); });
  return ffi::Error::Success();
}

}  // namespace

// How many floats a packed matrix takes, for one who allocates it; -1: there is no kernel.
extern "C" __attribute__((visibility("default"))) int64_t headrace_packed_size(int64_t rows, int64_t inner,
                                                                               int64_t columns, int64_t pieces) {
  try {
    return PackedProduct(rows, inner, columns, pieces).Floats();
  } catch (...) {
    return -1;
  }
}

// Packs a matrix that no program of XLA has to do with.
extern "C" __attribute__((visibility("default"))) void headrace_host_pack(const float* b, float* out, int64_t rows,
                                                                          int64_t inner, int64_t columns,
                                                                          int64_t pieces, int64_t transpose) {
  PackAll(HostPool::Get(), PackedProduct(rows, inner, columns, pieces), b, inner, columns, transpose != 0, out);
}

HEADRACE_HANDLER(headrace_pack, Pack,
                 ffi::Ffi::Bind()
                     .Ctx<ffi::ThreadPool>()
                     .Arg<ffi::Buffer<ffi::F32>>()
                     .Ret<ffi::Buffer<ffi::F32>>()
                     .Attr<int64_t>("rows")
                     .Attr<int64_t>("pieces")
                     .Attr<bool>("transpose"));

HEADRACE_HANDLER(headrace_packed_dot, PackedDot,
                 ffi::Ffi::Bind()
                     .Ctx<ffi::ThreadPool>()
                     .Arg<ffi::Buffer<ffi::F32>>()
                     .Arg<ffi::Buffer<ffi::F32>>()
                     .Ret<ffi::Buffer<ffi::F32>>()
                     .Attr<int64_t>("pieces"));

}  // namespace headrace
