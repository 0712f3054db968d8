// Draws of class numbers for sampled losses, from the Philox stream: see lowering/candidates.py, whose numbers these are.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

#include "parallel.h"
#include "xla/ffi/api/ffi.h"

namespace headrace {
namespace {

namespace ffi = xla::ffi;

constexpr int64_t kStateWords = 6;
// 32-bit words that are set aside for each number of a batch.
constexpr uint64_t kReservedWords = 2048;
// Draws after which a batch of distinct classes is given up: too few of them have a probability.
constexpr int64_t kMostTries = int64_t{1} << 31;

enum Kind : int64_t { kUniform, kLogUniform, kWeighted, kAlias };

// The words of the stream, one after the other.
class Words {
 public:
  explicit Words(const uint32_t* state) {
    std::memcpy(key_, state, sizeof key_);
    std::memcpy(counter_, state + 2, sizeof counter_);
  }

  uint32_t Next() {
    if (at_ == 4) {
      Compute();
      at_ = 0;
    }
    return block_[at_++];
  }

  uint64_t NextPair() {
    const uint64_t low = Next();
    return low | static_cast<uint64_t>(Next()) << 32;
  }

 private:
  void Compute() {
    uint32_t c0 = counter_[0], c1 = counter_[1], c2 = counter_[2], c3 = counter_[3], k0 = key_[0], k1 = key_[1];
    for (int round = 0; round < 10; ++round, k0 += 0x9E3779B9u, k1 += 0xBB67AE85u) {
      const uint64_t p0 = uint64_t{0xD2511F53} * c0, p1 = uint64_t{0xCD9E8D57} * c2;
      c0 = static_cast<uint32_t>(p1 >> 32) ^ c1 ^ k0;
      c2 = static_cast<uint32_t>(p0 >> 32) ^ c3 ^ k1;
      c1 = static_cast<uint32_t>(p1);
      c3 = static_cast<uint32_t>(p0);
    }
    block_[0] = c0, block_[1] = c1, block_[2] = c2, block_[3] = c3;
    for (uint32_t& word : counter_) {
      if (++word) break;
    }
  }

  uint32_t key_[2], counter_[4], block_[4];
  int at_ = 4;
};

bool IsPowerOfTwo(uint64_t n) { return (n & (n - 1)) == 0; }

// The distributions: a function object draws one class.
struct Uniform {
  uint64_t classes;
  int64_t operator()(Words& words) const {
    uint64_t bits = words.NextPair();
    if (IsPowerOfTwo(classes)) return bits & (classes - 1);
    // The lowest numbers are dropped, so that what is left is a multiple of `classes`.
    for (const uint64_t last = ~uint64_t{0} % classes; bits <= last;) bits = words.NextPair();
    return bits % classes;
  }
};

struct LogUniform {
  explicit LogUniform(int64_t classes) : classes(classes), range(std::log1p(static_cast<double>(classes))) {}
  int64_t classes;
  double range;
  int64_t operator()(Words& words) const {
    const uint64_t high = words.Next() & 0xFFFFF;
    const uint64_t bits = uint64_t{0x3FF} << 52 | high << 32 | words.Next();
    double u;
    std::memcpy(&u, &bits, sizeof u);
    return (static_cast<int64_t>(std::exp((u - 1.0) * range)) - 1) % classes;
  }
};

struct Weighted {
  explicit Weighted(const uint32_t* counts, int64_t classes) : cumulative(classes) {
    int64_t sum = 0;
    for (int64_t i = 0; i < classes; ++i) cumulative[i] = sum += counts[i];
    total = static_cast<uint32_t>(sum);
  }
  std::vector<int64_t> cumulative;
  uint32_t total;
  int64_t operator()(Words& words) const {
    uint32_t word = words.Next();
    if (IsPowerOfTwo(total)) {
      word &= total - 1;
    } else {
      for (const uint32_t last = ~uint32_t{0} % total; word <= last;) word = words.Next();
      word %= total;
    }
    return std::upper_bound(cumulative.begin(), cumulative.end(), static_cast<int64_t>(word)) - cumulative.begin();
  }
};

// Of two words the first decides between class and alias, the second says which class.
struct Alias {
  const float* share;
  const int64_t* alias;
  uint32_t classes;
  int64_t operator()(Words& words) const {
    const uint32_t bits = (words.Next() & 0x7FFFFF) | 0x3F800000;
    float u;
    std::memcpy(&u, &bits, sizeof u);
    uint32_t index = words.Next();
    if (IsPowerOfTwo(classes)) {
      index &= classes - 1;
    } else {
      for (const uint32_t last = ~uint32_t{0} % classes; index <= last;) index = words.Next();
      index %= classes;
    }
    return u - 1.0f < share[index] ? index : alias[index];
  }
};

// The classes of a batch so far: a hash table of twice its size.
class Seen {
 public:
  explicit Seen(int64_t count) {
    while ((int64_t{1} << bits_) < 2 * count) ++bits_;
    places_.assign(size_t{1} << bits_, -1);
  }
  // False: the class was there already.
  bool Add(int64_t number) {
    const uint64_t mask = places_.size() - 1;
    uint64_t at = static_cast<uint64_t>(number) * 0x9E3779B97F4A7C15u >> (64 - bits_);
    for (; places_[at] != -1; at = (at + 1) & mask) {
      if (places_[at] == number) return false;
    }
    places_[at] = number;
    return true;
  }

 private:
  int bits_ = 1;
  std::vector<int64_t> places_;
};

// Fills `out`; returns how many classes were drawn for it, -1 where there are not enough different ones.
template <typename Draw>
int64_t Fill(const Draw& draw, Words& words, int64_t count, bool unique, int64_t* out) {
  if (!unique) {
    for (int64_t i = 0; i < count; ++i) out[i] = draw(words);
    return count;
  }
  Seen seen(count);
  int64_t tries = 0;
  for (int64_t i = 0; i < count; ++tries) {
    if (tries == kMostTries) {
      std::fill(out + i, out + count, 0);
      return -1;
    }
    const int64_t number = draw(words);
    if (seen.Add(number)) out[i++] = number;
  }
  return tries;
}

ffi::Error Sample(ffi::Buffer<ffi::U32> state, ffi::Buffer<ffi::U32> counts, ffi::Buffer<ffi::F32> share,
                  ffi::Buffer<ffi::S64> alias, ffi::ResultBuffer<ffi::S64> sampled, ffi::ResultBuffer<ffi::S64> tries,
                  ffi::ResultBuffer<ffi::U32> after, int64_t kind, int64_t classes, bool unique) {
  if (state.element_count() != kStateWords || after->element_count() != kStateWords) {
    return ffi::Error::InvalidArgument("headrace_sample: a state has six words");
  }
  const int64_t count = sampled->element_count();
  const auto table_size = [classes](size_t entries) { return entries == static_cast<size_t>(classes); };
  if (classes < 1 || (kind == kWeighted && !table_size(counts.element_count())) ||
      (kind == kAlias && !(table_size(share.element_count()) && table_size(alias.element_count())))) {
    return ffi::Error::InvalidArgument("headrace_sample: a table of another size");
  }
  const uint32_t* begin = state.typed_data();
  Words words(begin);
  int64_t* out = sampled->typed_data();
  int64_t drawn = 0;
  switch (kind) {
    case kUniform:
      drawn = Fill(Uniform{static_cast<uint64_t>(classes)}, words, count, unique, out);
      break;
    case kLogUniform:
      drawn = Fill(LogUniform(classes), words, count, unique, out);
      break;
    case kWeighted:
      drawn = Fill(Weighted(counts.typed_data(), classes), words, count, unique, out);
      break;
    case kAlias:
      drawn = Fill(Alias{share.typed_data(), alias.typed_data(), static_cast<uint32_t>(classes)}, words, count, unique,
                   out);
      break;
    default:
      return ffi::Error::InvalidArgument("headrace_sample: no such distribution");
  }
  *tries->typed_data() = drawn;
  // The counter moves on by what is set aside for the batch, whatever was read of it.
  uint32_t* end = after->typed_data();
  std::memcpy(end, begin, kStateWords * sizeof *end);
  uint64_t low, high, blocks = (kReservedWords * count + 3) / 4;
  std::memcpy(&low, begin + 2, sizeof low);
  std::memcpy(&high, begin + 4, sizeof high);
  const uint64_t moved = low + blocks;
  high += moved < low;
  std::memcpy(end + 2, &moved, sizeof moved);
  std::memcpy(end + 4, &high, sizeof high);
  return ffi::Error::Success();
}

}  // namespace

HEADRACE_HANDLER(headrace_sample, Sample,
                 ffi::Ffi::Bind()
                     .Arg<ffi::Buffer<ffi::U32>>()
                     .Arg<ffi::Buffer<ffi::U32>>()
                     .Arg<ffi::Buffer<ffi::F32>>()
                     .Arg<ffi::Buffer<ffi::S64>>()
                     .Ret<ffi::Buffer<ffi::S64>>()
                     .Ret<ffi::Buffer<ffi::S64>>()
                     .Ret<ffi::Buffer<ffi::U32>>()
                     .Attr<int64_t>("kind")
                     .Attr<int64_t>("classes")
                     .Attr<bool>("unique"));

}  // namespace headrace
