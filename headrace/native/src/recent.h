// A bounded table of what is expensive to make: the entries that were used last are kept.

#ifndef HEADRACE_NATIVE_RECENT_H_
#define HEADRACE_NATIVE_RECENT_H_

#include <cstddef>
#include <list>
#include <map>
#include <memory>
#include <mutex>
#include <utility>

namespace headrace {

template <typename Key, typename Value>
class Recent {
 public:
  explicit Recent(size_t most) : most_(most) {}

  // The value of `key`; make() gives it where there is none. Two threads may make the same one: either will do.
  template <typename Make>
  std::shared_ptr<const Value> Find(const Key& key, const Make& make) {
    {
      std::lock_guard<std::mutex> lock(mutex_);
      const auto found = places_.find(key);
      if (found != places_.end()) {
        entries_.splice(entries_.begin(), entries_, found->second);
        return found->second->second;
      }
    }
    std::shared_ptr<const Value> value = make();
    std::lock_guard<std::mutex> lock(mutex_);
    if (!places_.count(key)) {
      entries_.emplace_front(key, value);
      places_[key] = entries_.begin();
      if (entries_.size() > most_) {
        places_.erase(entries_.back().first);
        entries_.pop_back();
      }
    }
    return value;
  }

 private:
  using Entry = std::pair<Key, std::shared_ptr<const Value>>;
  const size_t most_;
  std::mutex mutex_;
  std::list<Entry> entries_;
  std::map<Key, typename std::list<Entry>::iterator> places_;
};

}  // namespace headrace

#endif  // HEADRACE_NATIVE_RECENT_H_
