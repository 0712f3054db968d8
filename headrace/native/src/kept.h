// Filters in the order in which kernels want them, kept from call to call for as long as somebody vouches for their source.

#ifndef HEADRACE_NATIVE_KEPT_H_
#define HEADRACE_NATIVE_KEPT_H_

#include <cstdint>
#include <dnnl.hpp>
#include <functional>
#include <memory>

namespace headrace {

// The filter numbered `number` in the order of `arranged`: what `make` writes, the first time. Null where the number is
// not, or no longer, one of those that are kept, and where there is no room.
std::shared_ptr<void> KeptFilter(int64_t number, const dnnl::memory::desc& arranged,
                                 const std::function<void(void*)>& make);

}  // namespace headrace

#endif  // HEADRACE_NATIVE_KEPT_H_
