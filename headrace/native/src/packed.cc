// Products with a matrix that many products share, which is brought into the kernels' own order once (float32).

#include <dnnl.hpp>

#include <map>
#include <memory>
#include <mutex>
#include <tuple>
#include <vector>

#include "parallel.h"

namespace headrace {
namespace {

namespace ffi = xla::ffi;
using dnnl::memory;

// The kernels' own block of columns.
constexpr int64_t kColumns = 64;
constexpr int64_t kAlignment = 64;
// Kernels that are kept; a program has a handful.
constexpr size_t kMostKernels = 256;

const dnnl::engine& Engine() {
  static const dnnl::engine* engine = new dnnl::engine(dnnl::engine::kind::cpu, 0);
  return *engine;
}

dnnl::stream& Stream() {
  thread_local dnnl::stream stream(Engine());
  return stream;
}

// out[rows, columns] = a[rows, inner] b[inner, columns], where rows of `out` lie `stride` apart and `b` is packed.
struct Kernel {
  dnnl::matmul::primitive_desc description;
  dnnl::matmul primitive;
};

std::shared_ptr<const Kernel> FindKernel(int64_t rows, int64_t inner, int64_t columns, int64_t stride) {
  using Key = std::tuple<int64_t, int64_t, int64_t, int64_t>;
  static auto* kernels = new std::map<Key, std::shared_ptr<const Kernel>>;
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
    auto kernel = std::make_shared<Kernel>(Kernel{description, dnnl::matmul(description)});
    if (kernels->size() > kMostKernels) {
      kernels->clear();
      return (*kernels)[key] = kernel;
    }
    found = kernel;
  }
  return found;
}

// The columns of the matrix in `pieces` parts, each packed for itself.
struct Layout {
  Layout(int64_t columns, int64_t pieces)
      : columns(columns),
        width(std::max<int64_t>((columns + pieces - 1) / pieces + kColumns - 1, kColumns) / kColumns * kColumns),
        count((columns + width - 1) / width) {}
  int64_t WidthOf(int64_t piece) const { return std::min(width, columns - piece * width); }
  int64_t columns, width, count;
};

int64_t PackedFloats(const Kernel& kernel) {
  const int64_t size = kernel.description.weights_desc().get_size();
  return (size + kAlignment - 1) / kAlignment * kAlignment / static_cast<int64_t>(sizeof(float));
}

char* Scratch(size_t size) {
  thread_local std::vector<char> buffer;
  if (buffer.size() < size + kAlignment) buffer.resize(size + kAlignment);
  const auto address = reinterpret_cast<uintptr_t>(buffer.data());
  return buffer.data() + (kAlignment - address % kAlignment) % kAlignment;
}

void PackPiece(const Kernel& kernel, float* from, int64_t row_stride, int64_t column_stride, float* to) {
  const auto packed = kernel.description.weights_desc();
  memory::desc plain(packed.get_dims(), memory::data_type::f32, memory::dims{row_stride, column_stride});
  memory source(plain, Engine(), from), target(packed, Engine(), to);
  dnnl::reorder(source, target).execute(Stream(), source, target);
}

ffi::Error Pack(ffi::ThreadPool pool, ffi::Buffer<ffi::F32> b, ffi::ResultBuffer<ffi::F32> out, int64_t rows,
                int64_t pieces, bool transpose) {
  const auto dims = b.dimensions();
  if (dims.size() != 2) return ffi::Error::InvalidArgument("headrace_pack: the operand is no matrix");
  const int64_t inner = dims[transpose ? 1 : 0], columns = dims[transpose ? 0 : 1];
  const Layout layout(columns, pieces);
  std::vector<int64_t> starts{0};
  for (int64_t i = 0; i < layout.count; ++i) {
    starts.push_back(starts.back() + PackedFloats(*FindKernel(rows, inner, layout.WidthOf(i), columns)));
  }
  if (starts.back() != static_cast<int64_t>(out->element_count())) {
    return ffi::Error::InvalidArgument("headrace_pack: a result of another size");
  }
  float *from = b.typed_data(), *to = out->typed_data();
  ForEachChunk(pool, layout.count, [&](int64_t i) {
    const auto kernel = FindKernel(rows, inner, layout.WidthOf(i), columns);
    const int64_t first = i * layout.width;
    if (transpose) {
      PackPiece(*kernel, from + first * inner, 1, inner, to + starts[i]);
    } else {
      PackPiece(*kernel, from + first, columns, 1, to + starts[i]);
    }
  });
  return ffi::Error::Success();
}

ffi::Error PackedDot(ffi::ThreadPool pool, ffi::Buffer<ffi::F32> a, ffi::Buffer<ffi::F32> packed,
                     ffi::ResultBuffer<ffi::F32> out, int64_t pieces) {
  const auto dims = a.dimensions();
  if (dims.size() != 2 || out->dimensions().size() != 2) {
    return ffi::Error::InvalidArgument("headrace_packed_dot: an operand is no matrix");
  }
  const int64_t rows = dims[0], inner = dims[1], columns = out->dimensions()[1];
  const Layout layout(columns, pieces);
  const auto whole = FindKernel(rows, inner, layout.WidthOf(0), columns);
  const auto last = FindKernel(rows, inner, layout.WidthOf(layout.count - 1), columns);
  const int64_t floats = layout.count == 1 ? 0 : PackedFloats(*whole);
  if (floats * (layout.count - 1) + PackedFloats(*last) != static_cast<int64_t>(packed.element_count())) {
    return ffi::Error::InvalidArgument("headrace_packed_dot: a matrix that was packed for another product");
  }
  float *left = a.typed_data(), *right = packed.typed_data(), *result = out->typed_data();
  ForEachChunk(pool, layout.count, [&](int64_t i) {
    const Kernel& kernel = i == layout.count - 1 ? *last : *whole;
    const auto& description = kernel.description;
    memory source(description.src_desc(), Engine(), left);
    memory weights(description.weights_desc(), Engine(), right + i * floats);
    memory target(description.dst_desc(), Engine(), result + i * layout.width);
    const auto room = description.scratchpad_desc();
    memory scratch(room, Engine(), Scratch(room.get_size()));
    kernel.primitive.execute(Stream(), {{DNNL_ARG_SRC, source},
                                        {DNNL_ARG_WEIGHTS, weights},
                                        {DNNL_ARG_DST, target},
                                        {DNNL_ARG_SCRATCHPAD, scratch}});
  });
  return ffi::Error::Success();
}

}  // namespace

// How many floats a packed matrix takes, for one who allocates it; -1: there is no kernel.
extern "C" __attribute__((visibility("default"))) int64_t headrace_packed_size(int64_t rows, int64_t inner,
                                                                               int64_t columns, int64_t pieces) {
  try {
    const Layout layout(columns, pieces);
    int64_t total = 0;
    for (int64_t i = 0; i < layout.count; ++i) {
      total += PackedFloats(*FindKernel(rows, inner, layout.WidthOf(i), columns));
    }
    return total;
  } catch (...) {
    return -1;
  }
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
