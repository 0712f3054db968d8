// Elementwise programs: some dozens of operations on blocks of numbers that stay in the first cache.
//
// A program runs over `rows` by `columns`, a block of one row after the other. Its registers hold a block each, of
// 32-bit lanes: floats, integers, or truth values (all bits set, or none).

#ifndef HEADRACE_NATIVE_ELEMENTWISE_H_
#define HEADRACE_NATIVE_ELEMENTWISE_H_

#include <cstdint>
#include <vector>

namespace headrace {

// In the order of _OPCODES in native/loops/elementwise.py.
enum class Op : int32_t {
  kLoad,  // a: the view
  kStore,  // a: the register, b: the view
  kCopy,
  kAdd, kSub, kMul, kDiv, kMax, kMin,
  kNeg, kAbs, kSign, kSqrt, kRsqrt, kExp, kTanh, kLogistic,
  kLt, kLe, kGt, kGe, kEq, kNe,
  kAddInt, kSubInt, kMulInt, kMaxInt, kMinInt,
  kLtInt, kLeInt, kGtInt, kGeInt, kEqInt, kNeInt,
  kAnd, kOr, kXor, kNot,
  kSelect,  // a: the condition, b: where it is false, c: where it is true
  kIntToFloat, kTruthToFloat, kTruthToInt, kFloatToTruth, kIntToTruth,
  kOps,
};

enum class Element : int32_t {
  kWord,   // 32 bits, as they are
  kByte,   // a truth value, 0 or 1
  kScalar,       // an integer of the scalar program
  kScalarTruth,  // a truth value of the scalar program
};

struct View {
  int64_t base, offset, row_stride, column_stride;  // of elements
  Element element;
};

struct Instruction {
  Op op;
  int32_t out, a, b, c;
};

struct ElementwiseProgram {
  int64_t rows, columns;
  int32_t registers;
  std::vector<View> views;
  std::vector<std::pair<int32_t, uint32_t>> constants;  // register, bits
  std::vector<Instruction> code;

  int64_t Blocks() const { return rows * ((columns + kBlock - 1) / kBlock); }
  // The blocks from `first` to `last`; bases: where the views lie, scalars: what kScalar reads.
  void Run(int64_t first, int64_t last, char* const* bases, const int64_t* scalars) const;

  static constexpr int64_t kBlock = 256;
};

}  // namespace headrace

#endif  // HEADRACE_NATIVE_ELEMENTWISE_H_
