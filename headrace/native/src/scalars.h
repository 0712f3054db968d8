// The scalar part of a loop's body: counters, places in lists, conditions; whole numbers all.

#ifndef HEADRACE_NATIVE_SCALARS_H_
#define HEADRACE_NATIVE_SCALARS_H_

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <vector>

namespace headrace {

// In the order of _OPCODES in native/loops/scalars.py.
enum class ScalarOp : int64_t {
  kConstant,  // a: the number
  kAdd, kSub, kMul, kMax, kMin, kNeg,
  kLt, kLe, kGt, kGe, kEq, kNe, kAnd, kOr, kXor, kNot,
  kSelect,  // a: the condition, b: where it is false, c: where it is true
  kNarrow,  // to 32 bits
  kCopy,
  kLoad,    // a: the list, b: the place
  kStore,   // a: the list, b: the place, c: what is stored
};

struct ScalarInstruction {
  ScalarOp op;
  int64_t out, a, b, c;
};

// A list whose elements lie one behind the other: `size` bytes each.
struct List {
  char* data;
  int64_t length, size;
  char* At(int64_t index) const { return data + std::clamp<int64_t>(index, 0, std::max<int64_t>(length - 1, 0)) * size; }
};

inline int64_t LoadInteger(const char* from, int64_t size) {
  if (size == 1) return *from != 0;
  if (size == 4) {
    int32_t value;
    std::memcpy(&value, from, sizeof value);
    return value;
  }
  int64_t value;
  std::memcpy(&value, from, sizeof value);
  return value;
}

inline void StoreInteger(int64_t value, char* to, int64_t size) {
  // The bytes that are kept come first on the processors for which this is compiled.
  std::memcpy(to, &value, size);
}

inline void RunScalars(const std::vector<ScalarInstruction>& code, const std::vector<List>& lists, int64_t* r) {
  for (const auto& i : code) {
    switch (i.op) {
      case ScalarOp::kConstant: r[i.out] = i.a; break;
      case ScalarOp::kAdd: r[i.out] = r[i.a] + r[i.b]; break;
      case ScalarOp::kSub: r[i.out] = r[i.a] - r[i.b]; break;
      case ScalarOp::kMul: r[i.out] = r[i.a] * r[i.b]; break;
      case ScalarOp::kMax: r[i.out] = std::max(r[i.a], r[i.b]); break;
      case ScalarOp::kMin: r[i.out] = std::min(r[i.a], r[i.b]); break;
      case ScalarOp::kNeg: r[i.out] = -r[i.a]; break;
      case ScalarOp::kLt: r[i.out] = r[i.a] < r[i.b]; break;
      case ScalarOp::kLe: r[i.out] = r[i.a] <= r[i.b]; break;
      case ScalarOp::kGt: r[i.out] = r[i.a] > r[i.b]; break;
      case ScalarOp::kGe: r[i.out] = r[i.a] >= r[i.b]; break;
      case ScalarOp::kEq: r[i.out] = r[i.a] == r[i.b]; break;
      case ScalarOp::kNe: r[i.out] = r[i.a] != r[i.b]; break;
      case ScalarOp::kAnd: r[i.out] = r[i.a] & r[i.b]; break;
      case ScalarOp::kOr: r[i.out] = r[i.a] | r[i.b]; break;
      case ScalarOp::kXor: r[i.out] = r[i.a] ^ r[i.b]; break;
      case ScalarOp::kNot: r[i.out] = !r[i.a]; break;
      case ScalarOp::kSelect: r[i.out] = r[i.a] ? r[i.c] : r[i.b]; break;
      case ScalarOp::kNarrow: r[i.out] = static_cast<int32_t>(r[i.a]); break;
      case ScalarOp::kCopy: r[i.out] = r[i.a]; break;
      case ScalarOp::kLoad: r[i.out] = LoadInteger(lists[i.a].At(r[i.b]), lists[i.a].size); break;
      case ScalarOp::kStore: StoreInteger(r[i.c], lists[i.a].At(r[i.b]), lists[i.a].size); break;
    }
  }
}

}  // namespace headrace

#endif  // HEADRACE_NATIVE_SCALARS_H_
