// Reads programs that Python has written as numbers.

#ifndef HEADRACE_NATIVE_PROGRAM_READER_H_
#define HEADRACE_NATIVE_PROGRAM_READER_H_

#include <cstddef>
#include <cstdint>
#include <stdexcept>

#include "elementwise.h"

namespace headrace {

// A program, number by number, as native/loops/code.py and elementwise.py write it.
class Reader {
 public:
  Reader(const int64_t* at, size_t count) : at_(at), end_(at + count) {}
  int64_t Next() {
    if (at_ == end_) throw std::runtime_error("a program ends too early");
    return *at_++;
  }
  template <typename Fn>
  void ForEach(const Fn& fn) {
    for (int64_t count = Next(); count > 0; --count) fn();
  }

 private:
  const int64_t *at_, *end_;
};

inline ElementwiseProgram ReadElementwise(Reader& in) {
  ElementwiseProgram p;
  p.rows = in.Next();
  p.columns = in.Next();
  p.registers = static_cast<int32_t>(in.Next());
  in.ForEach([&] {
    p.views.push_back({in.Next(), in.Next(), in.Next(), in.Next(), static_cast<Element>(in.Next())});
  });
  in.ForEach([&] {
    const auto r = static_cast<int32_t>(in.Next());
    p.constants.emplace_back(r, static_cast<uint32_t>(in.Next()));
  });
  in.ForEach([&] {
    const auto op = static_cast<Op>(in.Next());
    if (op >= Op::kOps) throw std::runtime_error("an elementwise program has an operation that is none");
    int32_t n[4];
    for (int32_t& number : n) number = static_cast<int32_t>(in.Next());
    p.code.push_back({op, n[0], n[1], n[2], n[3]});
  });
  return p;
}

}  // namespace headrace

#endif  // HEADRACE_NATIVE_PROGRAM_READER_H_
