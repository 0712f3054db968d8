// Threads for products that no program of XLA has to do with: they have none of its pool.

#ifndef HEADRACE_NATIVE_HOST_POOL_H_
#define HEADRACE_NATIVE_HOST_POOL_H_

#include <algorithm>
#include <condition_variable>
#include <cstdint>
#include <cstdlib>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>
#include <utility>

namespace headrace {

// As many threads as XLA's own pool: one for each core, or what the environment says.
inline int64_t PoolSize() {
  const char* given = std::getenv("PJRT_NPROC");
  const int64_t size = given == nullptr ? 0 : std::atoll(given);
  return size > 0 ? size : std::max<int64_t>(std::thread::hardware_concurrency(), 1);
}

// The caller of ForEachChunk is one of the threads. In a forked child there is only the
// caller: tasks then wait for nobody, and are dropped.
class HostPool {
 public:
  static HostPool& Get() {
    static HostPool* pool = new HostPool;
    return *pool;
  }

  int64_t num_threads() const { return workers_ + 1; }

  void Schedule(std::function<void()>&& task) {
    {
      std::lock_guard<std::mutex> lock(mutex_);
      if (tasks_.size() > kMostTasks) tasks_.clear();
      tasks_.push_back(std::move(task));
    }
    ready_.notify_one();
  }

 private:
  static constexpr size_t kMostTasks = 1024;

  HostPool() : workers_(PoolSize() - 1) {
    for (int64_t i = 0; i < workers_; ++i) std::thread([this] { Work(); }).detach();
  }

  void Work() {
    for (;;) {
      std::function<void()> task;
      {
        std::unique_lock<std::mutex> lock(mutex_);
        ready_.wait(lock, [this] { return !tasks_.empty(); });
        task = std::move(tasks_.front());
        tasks_.pop_front();
      }
      task();
    }
  }

  const int64_t workers_;
  std::mutex mutex_;
  std::condition_variable ready_;
  std::deque<std::function<void()>> tasks_;
};

}  // namespace headrace

#endif  // HEADRACE_NATIVE_HOST_POOL_H_
