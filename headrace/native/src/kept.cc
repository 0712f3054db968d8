#include "kept.h"

#include <cstdlib>
#include <map>
#include <mutex>
#include <utility>
#include <vector>

namespace headrace {
namespace {

constexpr size_t kMostBytes = size_t{512} << 20;

using Arranged = std::pair<dnnl::memory::desc, std::shared_ptr<void>>;

struct Shelf {
  std::mutex mutex;
  std::map<int64_t, std::vector<Arranged>> filters;
  size_t bytes = 0;

  std::shared_ptr<void> Find(int64_t number, const dnnl::memory::desc& arranged) {
    for (const auto& [order, data] : filters[number]) {
      if (order == arranged) return data;
    }
    return nullptr;
  }
};

Shelf& TheShelf() {
  static Shelf* shelf = new Shelf;  // never destroyed: threads of the pool may outlive static objects
  return *shelf;
}

}  // namespace

std::shared_ptr<void> KeptFilter(int64_t number, const dnnl::memory::desc& arranged,
                                 const std::function<void(void*)>& make) {
  constexpr size_t kAlignment = 4096;
  Shelf& shelf = TheShelf();
  const size_t size = (arranged.get_size() + kAlignment - 1) / kAlignment * kAlignment;
  {
    std::lock_guard<std::mutex> lock(shelf.mutex);
    if (!shelf.filters.count(number)) return nullptr;
    if (auto found = shelf.Find(number, arranged)) return found;
    if (shelf.bytes + size > kMostBytes) return nullptr;
  }
  std::shared_ptr<void> made(std::aligned_alloc(kAlignment, size), std::free);
  if (!made) return nullptr;
  make(made.get());
  std::lock_guard<std::mutex> lock(shelf.mutex);
  const auto place = shelf.filters.find(number);
  // Another thread may have been faster, or the source may be gone by now.
  if (place != shelf.filters.end() && !shelf.Find(number, arranged)) {
    place->second.emplace_back(arranged, made);
    shelf.bytes += size;
  }
  return made;
}

// From now on what is made of the filter of this number is kept.
extern "C" __attribute__((visibility("default"))) void headrace_keep_filter(int64_t number) {
  Shelf& shelf = TheShelf();
  std::lock_guard<std::mutex> lock(shelf.mutex);
  shelf.filters[number];
}

// The source of this filter is gone, and what was made of it goes.
extern "C" __attribute__((visibility("default"))) void headrace_drop_filter(int64_t number) {
  Shelf& shelf = TheShelf();
  std::vector<Arranged> gone;  // freed when the lock is given back
  std::lock_guard<std::mutex> lock(shelf.mutex);
  const auto place = shelf.filters.find(number);
  if (place == shelf.filters.end()) return;
  gone = std::move(place->second);
  for (const auto& [order, data] : gone) shelf.bytes -= (order.get_size() + 4095) / 4096 * 4096;
  shelf.filters.erase(place);
}

// How many bytes are kept.
extern "C" __attribute__((visibility("default"))) int64_t headrace_kept_bytes() {
  Shelf& shelf = TheShelf();
  std::lock_guard<std::mutex> lock(shelf.mutex);
  return shelf.bytes;
}

}  // namespace headrace
