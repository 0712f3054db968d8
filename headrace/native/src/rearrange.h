// Arrays rewritten in the order in which oneDNN's kernels want them, or back.

#ifndef HEADRACE_NATIVE_REARRANGE_H_
#define HEADRACE_NATIVE_REARRANGE_H_

#include "onednn.h"
#include "parallel.h"
#include "workspace.h"

namespace headrace {

// By the calling thread: shared between threads it is faster in some processes, and slows down training in others.
class Rearrangement {
  using Desc = dnnl::memory::desc;

 public:
  // None is needed.
  Rearrangement() = default;

  Rearrangement(const Desc& from, const Desc& to) : from_(from), to_(to), is_needed_(true) {
    dnnl::primitive_attr attr;
    attr.set_scratchpad_mode(dnnl::scratchpad_mode::user);
    const dnnl::reorder::primitive_desc pd(Engine(), from, Engine(), to, attr);
    reorder_ = dnnl::reorder(pd);
    scratch_ = pd.scratchpad_desc();
  }

  bool IsNeeded() const { return is_needed_; }

  void Run(void* source, void* target) const {
    using dnnl::memory;
    OneThread one;
    Workspace scratch(scratch_.get_size());
    reorder_.execute(Stream(), {{DNNL_ARG_FROM, memory(from_, Engine(), source)},
                                {DNNL_ARG_TO, memory(to_, Engine(), target)},
                                {DNNL_ARG_SCRATCHPAD, memory(scratch_, Engine(), scratch.data())}});
  }

 private:
  dnnl::reorder reorder_;
  Desc from_, to_, scratch_;
  bool is_needed_ = false;
};

}  // namespace headrace

#endif  // HEADRACE_NATIVE_REARRANGE_H_
