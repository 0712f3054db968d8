// oneDNN's engine, and the stream of the current thread.

#ifndef HEADRACE_NATIVE_ONEDNN_H_
#define HEADRACE_NATIVE_ONEDNN_H_

#include <dnnl.hpp>

namespace headrace {

// Never destroyed: threads of the pool may outlive static objects.
inline const dnnl::engine& Engine() {
  static const dnnl::engine* engine = new dnnl::engine(dnnl::engine::kind::cpu, 0);
  return *engine;
}

inline dnnl::stream& Stream() {
  thread_local dnnl::stream stream(Engine());
  return stream;
}

}  // namespace headrace

#endif  // HEADRACE_NATIVE_ONEDNN_H_
