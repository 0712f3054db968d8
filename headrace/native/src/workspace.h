// Memory that kernels need beside their operands, kept from call to call.

#ifndef HEADRACE_NATIVE_WORKSPACE_H_
#define HEADRACE_NATIVE_WORKSPACE_H_

#include <cstddef>
#include <cstdlib>
#include <mutex>
#include <utility>
#include <vector>

namespace headrace {

class Workspace {
 public:
  explicit Workspace(size_t size) {
    if (!size) return;
    Shelf& shelf = TheShelf();
    {
      std::lock_guard<std::mutex> lock(shelf.mutex);
      size_t best = shelf.blocks.size();
      for (size_t i = 0; i < shelf.blocks.size(); ++i) {
        const size_t have = shelf.blocks[i].second;
        // A block that is far too large is left for whoever needs it.
        if (have < size || have > 4 * size + kAlignment) continue;
        if (best == shelf.blocks.size() || have < shelf.blocks[best].second) best = i;
      }
      if (best < shelf.blocks.size()) {
        block_ = shelf.blocks[best];
        shelf.total -= block_.second;
        shelf.blocks.erase(shelf.blocks.begin() + best);
        return;
      }
    }
    size = (size + kAlignment - 1) / kAlignment * kAlignment;
    block_ = {std::aligned_alloc(kAlignment, size), size};
    if (!block_.first) throw std::bad_alloc();
  }

  ~Workspace() {
    if (!block_.first) return;
    Shelf& shelf = TheShelf();
    {
      std::lock_guard<std::mutex> lock(shelf.mutex);
      if (shelf.total + block_.second <= kMostKept) {
        shelf.blocks.push_back(block_);
        shelf.total += block_.second;
        return;
      }
    }
    std::free(block_.first);
  }

  Workspace(const Workspace&) = delete;
  Workspace& operator=(const Workspace&) = delete;

  void* data() const { return block_.first; }

 private:
  static constexpr size_t kAlignment = 4096;
  static constexpr size_t kMostKept = size_t{64} << 20;

  struct Shelf {
    std::mutex mutex;
    std::vector<std::pair<void*, size_t>> blocks;
    size_t total = 0;
  };

  static Shelf& TheShelf() {
    static Shelf* shelf = new Shelf;  // never destroyed: threads of the pool may outlive static objects
    return *shelf;
  }

  std::pair<void*, size_t> block_{nullptr, 0};
};

}  // namespace headrace

#endif  // HEADRACE_NATIVE_WORKSPACE_H_
