// Threads that stay together for many short phases of work, as the iterations of a loop are.
//
// Handing each phase to a pool would cost more than the phase. Here the pool is asked once; its threads then look for the
// next phase themselves. A phase is cut into chunks, and whoever is free takes the next one: a thread that comes late, or
// never, holds up nobody. A thread tries the same chunks first in each phase, whose operands lie in its cache.

#ifndef HEADRACE_NATIVE_TEAM_H_
#define HEADRACE_NATIVE_TEAM_H_

#include <atomic>
#include <cstdint>
#include <memory>

#include "parallel.h"

namespace headrace {

class Team {
 public:
  static constexpr int64_t kMostChunks = 256;

  // run(chunk) computes one chunk of the phase that ForEach was last called for.
  template <typename Pool, typename Fn>
  Team(Pool& pool, const Fn& run) : shared_(std::make_shared<Shared>()) {
    shared_->context = &run;
    shared_->call = [](const void* context, int64_t chunk) { (*static_cast<const Fn*>(context))(chunk); };
    const int64_t helpers = std::min<int64_t>(Threads(pool), kMostThreads) - 1;
    shared_->threads = helpers + 1;
    for (int64_t i = 1; i <= helpers; ++i) {
      pool.Schedule([shared = shared_, i] {
        OneThread one;
        shared->Help(i);
      });
    }
  }

  ~Team() {
    shared_->ticket.store(kOver, std::memory_order_release);
    shared_->ticket.notify_all();
  }

  Team(const Team&) = delete;
  Team& operator=(const Team&) = delete;

  int64_t threads() const { return shared_->threads; }

  // run(0), ..., run(count - 1), each once, in any order. Returns when all are done. To be called inside a OneThread.
  void ForEach(int64_t count) {
    Shared& shared = *shared_;
    if (shared.threads == 1 || count == 1) {
      for (int64_t i = 0; i < count; ++i) shared.call(shared.context, i);
      return;
    }
    ++phase_;
    total_ += count;
    shared.ticket.store(phase_ << kCountBits | count, std::memory_order_release);
    shared.ticket.notify_all();
    shared.Take(phase_, count, 0);
    for (int spin = 0; spin < kSpins; ++spin) {
      if (shared.done.load(std::memory_order_acquire) == total_) return;
      __builtin_ia32_pause();
    }
    for (int64_t done; (done = shared.done.load(std::memory_order_acquire)) != total_;) {
      shared.done.wait(done, std::memory_order_acquire);
    }
  }

 private:
  static constexpr int64_t kMostThreads = 64;
  static constexpr int kCountBits = 16, kSpins = 4000;
  static constexpr uint64_t kOver = ~uint64_t{0};

  // Outlives the loop: a thread that the pool starts late finds that all is over, and touches nothing else.
  struct Shared {
    alignas(64) std::atomic<uint64_t> ticket{0};  // the number of the phase and how many chunks it has
    alignas(64) std::atomic<int64_t> done{0};     // chunks of all phases
    alignas(64) std::atomic<uint64_t> claimed[kMostChunks] = {};  // the last phase in which somebody took the chunk
    const void* context = nullptr;
    void (*call)(const void*, int64_t) = nullptr;
    int64_t threads = 1;

    bool Claim(uint64_t phase, int64_t chunk) {
      uint64_t last = claimed[chunk].load(std::memory_order_relaxed);
      return last < phase && claimed[chunk].compare_exchange_strong(last, phase, std::memory_order_acq_rel);
    }

    void Take(uint64_t phase, int64_t count, int64_t me) {
      int64_t finished = 0;
      for (int64_t chunk = me; chunk < count; chunk += threads) {
        if (!Claim(phase, chunk)) continue;
        call(context, chunk);
        ++finished;
      }
      for (int64_t chunk = count - 1; chunk >= 0; --chunk) {
        if (chunk % threads == me || !Claim(phase, chunk)) continue;
        call(context, chunk);
        ++finished;
      }
      if (finished) {
        done.fetch_add(finished, std::memory_order_acq_rel);
        done.notify_all();
      }
    }

    void Help(int64_t me) {
      uint64_t seen = 0;
      for (;;) {
        uint64_t now = ticket.load(std::memory_order_acquire);
        for (int spin = 0; now == seen && spin < kSpins; ++spin) {
          __builtin_ia32_pause();
          now = ticket.load(std::memory_order_acquire);
        }
        if (now == kOver) return;
        if (now == seen) {
          ticket.wait(seen, std::memory_order_acquire);
          continue;
        }
        seen = now;
        Take(now >> kCountBits, now & ((1 << kCountBits) - 1), me);
      }
    }
  };

  std::shared_ptr<Shared> shared_;
  uint64_t phase_ = 0;
  int64_t total_ = 0;
};

}  // namespace headrace

#endif  // HEADRACE_NATIVE_TEAM_H_
