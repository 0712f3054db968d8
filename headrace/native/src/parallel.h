// Work shared between the calling thread and XLA's own thread pool.
//
// oneDNN is built with OpenMP, whose threads spin at barriers and collapse when the machine has other work. Here the work
// is cut into chunks, each computed by one thread; whoever is free takes the next one, the caller included, so that a pool
// that is busy elsewhere costs nothing.

#ifndef HEADRACE_NATIVE_PARALLEL_H_
#define HEADRACE_NATIVE_PARALLEL_H_

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <memory>

#include "xla/ffi/api/ffi.h"

// A function that XLA may call, under its own name; all other symbols of the library are hidden.
#define HEADRACE_HANDLER(name, function, binding)                                              \
  extern "C" __attribute__((visibility("default"))) XLA_FFI_Error* name(XLA_FFI_CallFrame*); \
  XLA_FFI_DEFINE_HANDLER_SYMBOL(name, function, binding)

// Of libgomp, the runtime that oneDNN is linked with: a compiler's <omp.h> may belong to another one.
extern "C" int omp_get_max_threads();
extern "C" void omp_set_num_threads(int);

namespace headrace {

// Keeps oneDNN on the current thread. The setting belongs to the thread, and is given back.
class OneThread {
 public:
  OneThread() : before_(omp_get_max_threads()) {
    if (before_ != 1) omp_set_num_threads(1);
  }
  ~OneThread() {
    if (before_ != 1) omp_set_num_threads(before_);
  }
  OneThread(const OneThread&) = delete;
  OneThread& operator=(const OneThread&) = delete;

 private:
  int before_;
};

namespace internal {

// Outlives the call: a task that the pool starts late finds no chunk left and touches nothing else.
struct Shared {
  explicit Shared(int64_t count) : count(count) {}
  const int64_t count;
  std::atomic<int64_t> next{0};
  std::atomic<int64_t> done{0};
};

template <typename Fn>
void TakeChunks(Shared& shared, const Fn* fn) {
  int64_t finished = 0;
  for (int64_t i; (i = shared.next.fetch_add(1, std::memory_order_relaxed)) < shared.count;) {
    (*fn)(i);
    ++finished;
  }
  if (finished && shared.done.fetch_add(finished, std::memory_order_acq_rel) + finished == shared.count) {
    shared.done.notify_all();
  }
}

inline void AwaitAll(Shared& shared) {
  // Chunks end within microseconds of one another; after that long the thread had better sleep.
  for (int spin = 0; spin < 2000; ++spin) {
    if (shared.done.load(std::memory_order_acquire) == shared.count) return;
    __builtin_ia32_pause();
  }
  for (int64_t done; (done = shared.done.load(std::memory_order_acquire)) != shared.count;) {
    shared.done.wait(done, std::memory_order_acquire);
  }
}

}  // namespace internal

// How many threads may work at once.
template <typename Pool>
int64_t Threads(Pool& pool) {
  return std::max<int64_t>(pool.num_threads(), 1);
}

// fn(0), ..., fn(count - 1), each once, in any order, on the caller and the pool. Returns when all are done.
template <typename Pool, typename Fn>
void ForEachChunk(Pool& pool, int64_t count, const Fn& fn) {
  const int64_t helpers = std::min(Threads(pool), count) - 1;
  if (helpers <= 0) {
    OneThread one;
    for (int64_t i = 0; i < count; ++i) fn(i);
    return;
  }
  auto shared = std::make_shared<internal::Shared>(count);
  const Fn* chunk = &fn;
  for (int64_t i = 0; i < helpers; ++i) {
    pool.Schedule([shared, chunk] {
      OneThread one;
      internal::TakeChunks(*shared, chunk);
    });
  }
  {
    OneThread one;
    internal::TakeChunks(*shared, chunk);
  }
  internal::AwaitAll(*shared);
}

}  // namespace headrace

#endif  // HEADRACE_NATIVE_PARALLEL_H_
