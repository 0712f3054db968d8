// Convolutions with the channels last, and the gradients of their inputs and filters: in float32, or in bfloat16 with sums
// in float32.
//
// The operands stay as XLA has them, [batch, places..., channels]; filters, [places..., channels / groups, features], are
// rearranged into the form that oneDNN's kernels ask for. The batch is cut into pieces, each computed by one thread; where
// there are fewer images than threads, the rows of the output are. Gradients of filters are summed over the pieces. What
// follows a convolution (see finish.h) is applied to each piece while it is in the cache: pieces are then smaller.

#include <atomic>
#include <dnnl.hpp>
#include <list>
#include <map>
#include <stdexcept>
#include <string>

#include "finish.h"
#include "host_pool.h"
#include "kept.h"
#include "parallel.h"
#include "rearrange.h"
#include "workspace.h"

namespace headrace {
namespace {

namespace ffi = xla::ffi;
using dnnl::memory;
using Dims = memory::dims;

enum Direction : int64_t { kForward = 0, kInputGradient = 1, kFilterGradient = 2 };

// A piece must be worth waking a thread for.
constexpr double kFlopsPerPiece = 2e6, kHalfFlopsPerPiece = 2e7;
constexpr int64_t kPiecesPerThread = 2;
// So much of the output of a piece is in the cache still when the piece is done.
constexpr int64_t kFinishedBytes = 1 << 20;
constexpr size_t kMostPlans = 256;

// One convolution, whichever of its three directions is computed. Shapes are those of the forward one.
struct Problem {
  int64_t direction, groups;
  Dims x, w, y;  // [batch, places..., channels], [places..., channels / groups, features], as x
  Dims strides, dilations, pads_before, pads_after;
  bool finished = false;  // whether something follows in the same call
  memory::data_type type = memory::data_type::f32;

  int64_t Bytes() const { return static_cast<int64_t>(memory::data_type_size(type)); }
  // Gradients of filters are summed over pieces before they are rounded.
  memory::data_type KernelFilterType() const { return direction == kFilterGradient ? memory::data_type::f32 : type; }

  size_t spatial() const { return x.size() - 2; }

  double Flops() const {
    double flops = 2.0 * y[0] * y.back() * w[w.size() - 2];
    for (size_t i = 0; i < spatial(); ++i) flops *= static_cast<double>(y[i + 1]) * w[i];
    return flops;
  }

  Dims Key(int64_t threads) const {
    Dims key{direction, groups, threads, finished, static_cast<int64_t>(type)};
    for (const Dims* part : {&x, &w, &y, &strides, &dilations, &pads_before, &pads_after}) {
      key.insert(key.end(), part->begin(), part->end());
    }
    return key;
  }
};

// An image tensor whose rows may be part of larger images: `whole` is the shape that decides where elements lie.
memory::desc DescribeImages(memory::data_type type, const Dims& dims, const Dims& whole) {
  Dims logical{dims[0], dims.back()}, strides(dims.size());
  logical.insert(logical.end(), dims.begin() + 1, dims.end() - 1);
  int64_t step = whole.back();
  strides[1] = 1;
  for (size_t i = whole.size() - 2; i >= 1; --i) {
    strides[i + 1] = step;
    step *= whole[i];
  }
  strides[0] = step;
  return {logical, type, strides};
}

Dims FilterDims(const Problem& p) {
  const size_t n = p.spatial();
  Dims dims;
  if (p.groups > 1) dims.push_back(p.groups);
  dims.push_back(p.w[n + 1] / p.groups);
  dims.push_back(p.w[n]);
  dims.insert(dims.end(), p.w.begin(), p.w.begin() + n);
  return dims;
}

memory::desc DescribeFilter(const Problem& p) {
  const size_t n = p.spatial();
  const int64_t features = p.w[n + 1];
  Dims strides;
  if (p.groups > 1) strides.push_back(features / p.groups);
  strides.push_back(1);
  strides.push_back(features);
  int64_t step = features * p.w[n];
  Dims spatial(n);
  for (size_t i = n; i-- > 0;) {
    spatial[i] = step;
    step *= p.w[i];
  }
  strides.insert(strides.end(), spatial.begin(), spatial.end());
  return {FilterDims(p), p.type, strides};
}

// A kernel for pieces of one shape.
struct Kernel {
  dnnl::primitive primitive;
  memory::desc x, filter, y, scratch;
};

struct Piece {
  size_t kernel;
  int64_t offset_x, offset_y, places;  // places: so many positions of the output
};

struct Plan {
  std::vector<Kernel> kernels;
  std::vector<Piece> pieces;
  memory::desc filter;       // as XLA has it
  memory::desc rearranged;   // as the kernels have it
  Rearrangement rearrangement;  // from the one to the other, whichever way the direction needs
};

// In any arrangement that the kernel likes.
memory::desc AnyFilter(const Problem& p) {
  return {FilterDims(p), p.KernelFilterType(), memory::format_tag::any};
}

template <typename Descriptor>
const Descriptor& Checked(const Problem& p, const Descriptor& pd) {
  const std::string kernel = pd.impl_info_str();
  const auto is = [&](const char* what) { return kernel.find(what) != std::string::npos; };
  if (is("ref")) throw std::runtime_error("only the reference implementation");
  // Kernels for bfloat16 that do not multiply tiles are slower than those for float32, where they do not wait for memory.
  if (p.type == memory::data_type::bf16 && !is("amx") && !is("dw")) {
    throw std::runtime_error("no kernel that is faster than that for float32");
  }
  return pd;
}

// Calls `use` with oneDNN's description of a piece with inputs `x`, outputs `y`, and with that of its filter.
// `filter`: the arrangement that the filter must have, or any.
template <typename Use>
auto Describe(const Problem& p, const memory::desc& x, const memory::desc& y, const memory::desc& filter,
              int64_t pad_before, int64_t pad_after, const Use& use) {
  dnnl::primitive_attr attr;
  attr.set_scratchpad_mode(dnnl::scratchpad_mode::user);
  Dims dilations = p.dilations, before = p.pads_before, after = p.pads_after;
  for (int64_t& d : dilations) d -= 1;
  before[0] = pad_before;
  after[0] = pad_after;
  const auto algorithm = dnnl::algorithm::convolution_direct;
  if (p.direction == kForward) {
    dnnl::convolution_forward::primitive_desc pd(Engine(), dnnl::prop_kind::forward_training, algorithm, x, filter,
                                                 memory::desc(), y, p.strides, dilations, before, after, attr);
    return use(Checked(p, pd), pd.weights_desc());
  }
  const memory::desc any_filter(FilterDims(p), p.type, memory::format_tag::any);
  dnnl::convolution_forward::primitive_desc hint(Engine(), dnnl::prop_kind::forward_training, algorithm, x, any_filter,
                                                 memory::desc(), y, p.strides, dilations, before, after, attr);
  if (p.direction == kInputGradient) {
    dnnl::convolution_backward_data::primitive_desc pd(Engine(), algorithm, x, filter, y, p.strides, dilations, before,
                                                       after, hint, attr);
    return use(Checked(p, pd), pd.weights_desc());
  }
  dnnl::convolution_backward_weights::primitive_desc pd(Engine(), algorithm, x, filter, memory::desc(), y, p.strides,
                                                        dilations, before, after, hint, attr);
  return use(Checked(p, pd), pd.diff_weights_desc());
}

int64_t Elements(const Dims& dims) {
  int64_t count = 1;
  for (int64_t d : dims) count *= d;
  return count;
}

// Adds a piece to the plan, and a kernel where none of its shape is there yet.
class Planner {
 public:
  Planner(const Problem& p, Plan& plan) : p_(p), plan_(plan) {}

  // Images [first, first + count), rows [row, row + rows) of the output.
  void Add(int64_t first, int64_t count, int64_t row, int64_t rows) {
    const int64_t reach = (p_.w[0] - 1) * p_.dilations[0] + 1;
    const int64_t from = row * p_.strides[0] - p_.pads_before[0];
    const int64_t to = (row + rows - 1) * p_.strides[0] - p_.pads_before[0] + reach;
    const bool whole = rows == p_.y[1];
    const int64_t begin = whole ? 0 : std::max<int64_t>(from, 0);
    const int64_t end = whole ? p_.x[1] : std::min(to, p_.x[1]);
    if (end <= begin) throw std::runtime_error("a piece would see padding only");
    const int64_t before = whole ? p_.pads_before[0] : begin - from, after = whole ? p_.pads_after[0] : to - end;
    const Dims shape{count, end - begin, rows, before, after};
    auto found = made_.find(shape);
    if (found == made_.end()) {
      Dims x = p_.x, y = p_.y;
      x[0] = y[0] = count;
      x[1] = end - begin;
      y[1] = rows;
      const memory::desc filter = plan_.kernels.empty() ? AnyFilter(p_) : plan_.rearranged;
      const memory::desc images_x = DescribeImages(p_.type, x, p_.x), images_y = DescribeImages(p_.type, y, p_.y);
      plan_.kernels.push_back(
          Describe(p_, images_x, images_y, filter, before, after, [&](const auto& pd, const memory::desc& arranged) {
            return Kernel{dnnl::primitive(pd), images_x, arranged, images_y, pd.scratchpad_desc()};
          }));
      if (plan_.kernels.size() == 1) plan_.rearranged = plan_.kernels[0].filter;
      found = made_.emplace(shape, plan_.kernels.size() - 1).first;
    }
    const int64_t image_x = Elements(p_.x) / p_.x[0], image_y = Elements(p_.y) / p_.y[0];
    plan_.pieces.push_back({found->second, first * image_x + begin * (image_x / p_.x[1]),
                            first * image_y + row * (image_y / p_.y[1]),
                            count * (image_y / p_.y[1]) * rows / p_.y.back()});
  }

 private:
  const Problem& p_;
  Plan& plan_;
  std::map<Dims, size_t> made_;
};

// Cuts the images, or each image in bands of rows.
void MakePieces(const Problem& p, int64_t wanted, bool in_bands, Plan& plan) {
  Planner planner(p, plan);
  const int64_t images = p.x[0], rows = p.y[1];
  const int64_t bands = in_bands ? std::min(rows, (wanted + images - 1) / images) : 1;
  if (bands > 1) {
    for (int64_t i = 0; i < images; ++i) {
      for (int64_t b = 0; b < bands; ++b) {
        const int64_t row = rows * b / bands;
        planner.Add(i, 1, row, rows * (b + 1) / bands - row);
      }
    }
    return;
  }
  const int64_t count = std::min(images, wanted);
  for (int64_t i = 0; i < count; ++i) {
    const int64_t first = images * i / count;
    planner.Add(first, images * (i + 1) / count - first, 0, rows);
  }
}

void MakePieces(const Problem& p, int64_t threads, Plan& plan) {
  // Each piece of a filter's gradient is a filter to be added up.
  const int64_t most = threads == 1 ? 1 : threads * (p.direction == kFilterGradient ? 1 : kPiecesPerThread);
  const int64_t for_threads = std::clamp<int64_t>(p.Flops() / (p.Bytes() == 2 ? kHalfFlopsPerPiece : kFlopsPerPiece), 1, most);
  const int64_t for_cache = p.finished ? Elements(p.y) * p.Bytes() / kFinishedBytes : 1;
  const int64_t wanted = std::max(for_threads, for_cache);
  const bool in_bands = p.direction != kInputGradient && (p.x[0] < threads || wanted == for_cache);
  for (int64_t pieces : {wanted, for_threads, int64_t{1}}) {
    plan = Plan();
    try {
      return MakePieces(p, pieces, in_bands && pieces == wanted, plan);
    } catch (const std::exception&) {
      if (pieces == 1) throw;
    }
  }
}

std::shared_ptr<const Plan> MakePlan(const Problem& p, int64_t threads) {
  OneThread one;
  auto plan = std::make_shared<Plan>();
  MakePieces(p, threads, *plan);
  plan->filter = DescribeFilter(p);
  if (plan->filter != plan->rearranged) {
    const bool back = p.direction == kFilterGradient;
    plan->rearrangement = back ? Rearrangement(plan->rearranged, plan->filter)
                               : Rearrangement(plan->filter, plan->rearranged);
  }
  return plan;
}

// The plan of a problem: the most recently used ones are kept.
std::shared_ptr<const Plan> PlanOf(const Problem& p, int64_t threads) {
  using Entry = std::pair<Dims, std::shared_ptr<const Plan>>;
  struct Cache {
    std::mutex mutex;
    std::list<Entry> recent;
    std::map<Dims, std::list<Entry>::iterator> places;
  };
  static Cache* cache = new Cache;
  Dims key = p.Key(threads);
  {
    std::lock_guard<std::mutex> lock(cache->mutex);
    const auto found = cache->places.find(key);
    if (found != cache->places.end()) {
      cache->recent.splice(cache->recent.begin(), cache->recent, found->second);
      return found->second->second;
    }
  }
  auto plan = MakePlan(p, threads);
  std::lock_guard<std::mutex> lock(cache->mutex);
  if (!cache->places.count(key)) {
    cache->recent.emplace_front(key, plan);
    cache->places[std::move(key)] = cache->recent.begin();
    if (cache->recent.size() > kMostPlans) {
      cache->places.erase(cache->recent.back().first);
      cache->recent.pop_back();
    }
  }
  return plan;
}

void RunKernel(const Kernel& kernel, int64_t direction, char* x, char* filter, char* y) {
  Workspace scratch(kernel.scratch.get_size());
  const memory data_x(kernel.x, Engine(), x), data_filter(kernel.filter, Engine(), filter), data_y(kernel.y, Engine(), y);
  const memory data_scratch(kernel.scratch, Engine(), scratch.data());
  switch (direction) {
    case kForward:
      return kernel.primitive.execute(Stream(), {{DNNL_ARG_SRC, data_x},
                                                 {DNNL_ARG_WEIGHTS, data_filter},
                                                 {DNNL_ARG_DST, data_y},
                                                 {DNNL_ARG_SCRATCHPAD, data_scratch}});
    case kInputGradient:
      return kernel.primitive.execute(Stream(), {{DNNL_ARG_DIFF_SRC, data_x},
                                                 {DNNL_ARG_WEIGHTS, data_filter},
                                                 {DNNL_ARG_DIFF_DST, data_y},
                                                 {DNNL_ARG_SCRATCHPAD, data_scratch}});
    default:
      return kernel.primitive.execute(Stream(), {{DNNL_ARG_SRC, data_x},
                                                 {DNNL_ARG_DIFF_WEIGHTS, data_filter},
                                                 {DNNL_ARG_DIFF_DST, data_y},
                                                 {DNNL_ARG_SCRATCHPAD, data_scratch}});
  }
}

// Runs the pieces; `filter_of(i)` is where piece i has its filter, `finish` what follows, if anything does. Exceptions
// must not leave a thread of the pool.
template <typename Pool, typename FilterOf>
void RunPieces(Pool& pool, const Plan& plan, const Problem& p, char* x, char* y, const FilterOf& filter_of,
               const Finish* finish = nullptr) {
  std::atomic<bool> failed{false};
  ForEachChunk(pool, plan.pieces.size(), [&](int64_t i) {
    const Piece& piece = plan.pieces[i];
    try {
      char* part = y + p.Bytes() * piece.offset_y;
      RunKernel(plan.kernels[piece.kernel], p.direction, x + p.Bytes() * piece.offset_x, filter_of(i), part);
      if (finish) finish->Apply(reinterpret_cast<float*>(part), piece.offset_y, piece.places, p.y.back());
    } catch (const std::exception&) {
      failed = true;
    }
  });
  if (failed) throw std::runtime_error("a kernel failed");
}

// finish: what follows, if anything does. number: that of the filter, if its arrangement may be kept.
template <typename Pool>
void Run(Pool& pool, const Problem& p, char* x, char* w, char* y, const Finish* finish = nullptr,
         int64_t number = 0) {
  const auto plan = PlanOf(p, Threads(pool));
  const size_t size = plan->rearranged.get_size();
  const bool rearranges = plan->rearrangement.IsNeeded();
  if (p.direction != kFilterGradient) {
    std::shared_ptr<void> kept;
    if (rearranges && number) {
      kept = KeptFilter(number, plan->rearranged, [&](void* made) { plan->rearrangement.Run(w, made); });
    }
    Workspace rearranged(rearranges && !kept ? size : 0);
    char* filter = rearranges ? static_cast<char*>(kept ? kept.get() : rearranged.data()) : w;
    if (rearranges && !kept) plan->rearrangement.Run(w, filter);
    return RunPieces(pool, *plan, p, x, y, [&](int64_t) { return filter; }, finish);
  }
  // The first piece writes to where the sum will be.
  const int64_t pieces = plan->pieces.size();
  const size_t padded = (size + 63) / 64 * 64;
  Workspace parts(padded * (rearranges ? pieces : pieces - 1));
  char* memory_of_parts = static_cast<char*>(parts.data());
  const auto part = [&](int64_t i) {
    if (!rearranges && i == 0) return w;
    return memory_of_parts + padded * (rearranges ? i : i - 1);
  };
  RunPieces(pool, *plan, p, x, y, part);
  if (pieces > 1) {
    constexpr int64_t kStretch = 1 << 15;
    const int64_t count = size / sizeof(float);
    ForEachChunk(pool, (count + kStretch - 1) / kStretch, [&](int64_t chunk) {
      const int64_t begin = chunk * kStretch, end = std::min(count, begin + kStretch);
      float* sum = reinterpret_cast<float*>(part(0));
      for (int64_t i = 1; i < pieces; ++i) {
        const float* term = reinterpret_cast<float*>(part(i));
        for (int64_t j = begin; j < end; ++j) sum[j] += term[j];
      }
    });
  }
  if (rearranges) plan->rearrangement.Run(part(0), w);
}

Dims ToDims(ffi::Span<const int64_t> values) { return Dims(values.begin(), values.end()); }

ffi::Error Convolution(ffi::ThreadPool pool, ffi::AnyBuffer a, ffi::AnyBuffer b, ffi::Result<ffi::AnyBuffer> out,
                       int64_t direction, int64_t groups, ffi::Span<const int64_t> strides,
                       ffi::Span<const int64_t> dilations, ffi::Span<const int64_t> pads_before,
                       ffi::Span<const int64_t> pads_after) {
  const auto type = a.element_type();
  if ((type != ffi::F32 && type != ffi::BF16) || b.element_type() != type || out->element_type() != type) {
    return ffi::Error::InvalidArgument("headrace_convolution: operands of another type");
  }
  Problem p{direction, groups, {}, {}, {}, ToDims(strides), ToDims(dilations), ToDims(pads_before), ToDims(pads_after)};
  if (type == ffi::BF16) p.type = memory::data_type::bf16;
  char *x, *w, *y;
  const auto take = [](auto& buffer, Dims& dims) {
    dims = ToDims(buffer.dimensions());
    return static_cast<char*>(buffer.untyped_data());
  };
  // (x, w) -> y; (y, w) -> x; (x, y) -> w
  switch (direction) {
    case kForward:
      x = take(a, p.x), w = take(b, p.w), y = take(*out, p.y);
      break;
    case kInputGradient:
      y = take(a, p.y), w = take(b, p.w), x = take(*out, p.x);
      break;
    default:
      x = take(a, p.x), y = take(b, p.y), w = take(*out, p.w);
  }
  try {
    Run(pool, p, x, w, y);
  } catch (const std::exception& error) {
    return ffi::Error::Internal(std::string("headrace_convolution: ") + error.what());
  }
  return ffi::Error::Success();
}

// A convolution and what follows it: `scale` and `shift` of the channels, `residual` as the output; empty where not wanted.
// Element `place` of `numbers` is the number of the filter (see kept.h), if that is not negative.
ffi::Error FinishedConvolution(ffi::ThreadPool pool, ffi::Buffer<ffi::F32> x, ffi::Buffer<ffi::F32> w,
                               ffi::Buffer<ffi::F32> scale, ffi::Buffer<ffi::F32> shift, ffi::Buffer<ffi::F32> residual,
                               ffi::Buffer<ffi::S64> numbers, ffi::ResultBuffer<ffi::F32> out, int64_t groups,
                               ffi::Span<const int64_t> strides, ffi::Span<const int64_t> dilations,
                               ffi::Span<const int64_t> pads_before, ffi::Span<const int64_t> pads_after, float lowest,
                               float highest, int64_t place) {
  const Problem p{kForward,
                  groups,
                  ToDims(x.dimensions()),
                  ToDims(w.dimensions()),
                  ToDims(out->dimensions()),
                  ToDims(strides),
                  ToDims(dilations),
                  ToDims(pads_before),
                  ToDims(pads_after),
                  true};
  const auto given = [](auto& buffer) { return buffer.element_count() ? buffer.typed_data() : nullptr; };
  const Finish finish{given(scale), given(shift), given(residual), lowest, highest};
  try {
    Run(pool, p, static_cast<char*>(x.untyped_data()), static_cast<char*>(w.untyped_data()),
        static_cast<char*>(out->untyped_data()), &finish, place < 0 ? 0 : numbers.typed_data()[place]);
  } catch (const std::exception& error) {
    return ffi::Error::Internal(std::string("headrace_finished_convolution: ") + error.what());
  }
  return ffi::Error::Success();
}

}  // namespace

HEADRACE_HANDLER(headrace_finished_convolution, FinishedConvolution,
                 ffi::Ffi::Bind()
                     .Ctx<ffi::ThreadPool>()
                     .Arg<ffi::Buffer<ffi::F32>>()
                     .Arg<ffi::Buffer<ffi::F32>>()
                     .Arg<ffi::Buffer<ffi::F32>>()
                     .Arg<ffi::Buffer<ffi::F32>>()
                     .Arg<ffi::Buffer<ffi::F32>>()
                     .Arg<ffi::Buffer<ffi::S64>>()
                     .Ret<ffi::Buffer<ffi::F32>>()
                     .Attr<int64_t>("groups")
                     .Attr<ffi::Span<const int64_t>>("strides")
                     .Attr<ffi::Span<const int64_t>>("dilations")
                     .Attr<ffi::Span<const int64_t>>("pads_before")
                     .Attr<ffi::Span<const int64_t>>("pads_after")
                     .Attr<float>("lowest")
                     .Attr<float>("highest")
                     .Attr<int64_t>("place"));

HEADRACE_HANDLER(headrace_convolution, Convolution,
                 ffi::Ffi::Bind()
                     .Ctx<ffi::ThreadPool>()
                     .Arg<ffi::AnyBuffer>()
                     .Arg<ffi::AnyBuffer>()
                     .Ret<ffi::AnyBuffer>()
                     .Attr<int64_t>("direction")
                     .Attr<int64_t>("groups")
                     .Attr<ffi::Span<const int64_t>>("strides")
                     .Attr<ffi::Span<const int64_t>>("dilations")
                     .Attr<ffi::Span<const int64_t>>("pads_before")
                     .Attr<ffi::Span<const int64_t>>("pads_after"));

// What Python says of a convolution: whether it is of bfloat16, direction, groups, then with n places x (n + 2), w (n + 2), y (n + 2), strides,
// dilations, pads before, pads after (n each).
static Problem FromNumbers(int64_t n, const int64_t* numbers) {
  const auto take = [&numbers](int64_t count) {
    Dims dims(numbers, numbers + count);
    numbers += count;
    return dims;
  };
  const bool half = *numbers++ != 0;
  const int64_t direction = *numbers++, groups = *numbers++;
  Problem p{direction, groups, take(n + 2), take(n + 2), take(n + 2), take(n), take(n), take(n), take(n)};
  if (half) p.type = memory::data_type::bf16;
  return p;
}

// Whether there are kernels for a convolution, asked while a program is made.
extern "C" __attribute__((visibility("default"))) int headrace_has_convolution(int64_t n, const int64_t* numbers) {
  const Problem p = FromNumbers(n, numbers);
  try {
    OneThread one;
    Describe(p, DescribeImages(p.type, p.x, p.x), DescribeImages(p.type, p.y, p.y), AnyFilter(p), p.pads_before[0],
             p.pads_after[0], [](const auto&, const memory::desc&) { return true; });
  } catch (const std::exception&) {
    return 0;
  }
  return 1;
}

// A convolution of arrays that no program of XLA has to do with; 0 where there is no kernel for it.
extern "C" __attribute__((visibility("default"))) int headrace_host_convolution(int64_t n, const int64_t* numbers,
                                                                                char* x, char* w, char* y) {
  try {
    Run(HostPool::Get(), FromNumbers(n, numbers), x, w, y);
  } catch (const std::exception&) {
    return 0;
  }
  return 1;
}

}  // namespace headrace
