// Arrays rewritten in the order in which oneDNN's kernels want them, or back, in a part for each thread.

#ifndef HEADRACE_NATIVE_REARRANGE_H_
#define HEADRACE_NATIVE_REARRANGE_H_

#include <atomic>
#include <dnnl.hpp>
#include <stdexcept>
#include <vector>

#include "parallel.h"
#include "workspace.h"

namespace headrace {

inline const dnnl::engine& Engine() {
  static const dnnl::engine* engine = new dnnl::engine(dnnl::engine::kind::cpu, 0);
  return *engine;
}

inline dnnl::stream& Stream() {
  thread_local dnnl::stream stream(Engine());
  return stream;
}

class Rearrangement {
  using Desc = dnnl::memory::desc;

 public:
  // None is needed.
  Rearrangement() = default;

  // Cut along the first axis, between blocks that stay together in both orders.
  Rearrangement(const Desc& from, const Desc& to, int64_t threads) {
    constexpr int64_t kLeastBytes = 1 << 16;  // less is not worth waking a thread for
    const int64_t count = from.get_dims()[0], block = std::max(FirstBlock(from), FirstBlock(to));
    const int64_t blocks = (count + block - 1) / block, bytes = from.get_size();
    const int64_t parts = std::clamp<int64_t>(bytes / kLeastBytes, 1, std::min(threads, blocks));
    try {
      for (int64_t i = 0; i < parts; ++i) {
        const int64_t first = blocks * i / parts * block, end = std::min(count, blocks * (i + 1) / parts * block);
        Add(from, to, first, end - first);
      }
    } catch (const std::exception&) {
      if (parts == 1) throw;
      parts_.clear();
      Add(from, to, 0, count);
    }
  }

  bool IsNeeded() const { return !parts_.empty(); }

  template <typename Pool>
  void Run(Pool& pool, void* source, void* target) const {
    using dnnl::memory;
    std::atomic<bool> failed{false};
    ForEachChunk(pool, parts_.size(), [&](int64_t i) {
      const Part& part = parts_[i];
      try {
        Workspace scratch(part.scratch.get_size());
        part.reorder.execute(Stream(), {{DNNL_ARG_FROM, memory(part.from, Engine(), source)},
                                        {DNNL_ARG_TO, memory(part.to, Engine(), target)},
                                        {DNNL_ARG_SCRATCHPAD, memory(part.scratch, Engine(), scratch.data())}});
      } catch (const std::exception&) {
        failed = true;
      }
    });
    if (failed) throw std::runtime_error("a filter could not be rearranged");
  }

 private:
  struct Part {
    dnnl::reorder reorder;
    Desc from, to, scratch;
  };

  static int64_t FirstBlock(const Desc& arranged) {
    int64_t block = 1;
    const dnnl::memory::dims sizes = arranged.get_inner_blks(), axes = arranged.get_inner_idxs();
    for (size_t i = 0; i < sizes.size(); ++i) block *= axes[i] == 0 ? sizes[i] : 1;
    return block;
  }

  void Add(const Desc& from, const Desc& to, int64_t first, int64_t count) {
    dnnl::memory::dims dims = from.get_dims(), offsets(dims.size());
    dims[0] = count;
    offsets[0] = first;
    dnnl::primitive_attr attr;
    attr.set_scratchpad_mode(dnnl::scratchpad_mode::user);
    const Desc part = from.submemory_desc(dims, offsets), part_to = to.submemory_desc(dims, offsets);
    dnnl::reorder::primitive_desc pd(Engine(), part, Engine(), part_to, attr);
    parts_.push_back({dnnl::reorder(pd), part, part_to, pd.scratchpad_desc()});
  }

  std::vector<Part> parts_;
};

}  // namespace headrace

#endif  // HEADRACE_NATIVE_REARRANGE_H_
