// A bundle: many small arrays of any types in one buffer, one behind the other, each at a multiple of 16 bytes.

#include <cstdint>
#include <cstring>

#include "parallel.h"
#include "xla/ffi/api/ffi.h"

namespace headrace {
namespace {

namespace ffi = xla::ffi;

constexpr size_t kAlignment = 16;

size_t Room(size_t bytes) { return (bytes + kAlignment - 1) / kAlignment * kAlignment; }

ffi::Error WrongSize() { return ffi::Error::InvalidArgument("headrace_bundle: a buffer of another size"); }

ffi::Error Bundle(ffi::RemainingArgs arrays, ffi::ResultBuffer<ffi::U8> out) {
  auto* to = static_cast<char*>(out->untyped_data());
  size_t left = out->size_bytes();
  for (size_t i = 0; i < arrays.size(); ++i) {
    const auto array = arrays.get<ffi::AnyBuffer>(i);
    if (array.has_error()) return array.error();
    const size_t bytes = array->size_bytes(), room = Room(bytes);
    if (room > left) return WrongSize();
    std::memcpy(to, array->untyped_data(), bytes);
    std::memset(to + bytes, 0, room - bytes);
    to += room;
    left -= room;
  }
  return left ? WrongSize() : ffi::Error::Success();
}

ffi::Error Unbundle(ffi::Buffer<ffi::U8> bundle, ffi::RemainingRets arrays) {
  const auto* from = static_cast<const char*>(bundle.untyped_data());
  size_t left = bundle.size_bytes();
  for (size_t i = 0; i < arrays.size(); ++i) {
    auto array = arrays.get<ffi::AnyBuffer>(i);
    if (array.has_error()) return array.error();
    const size_t bytes = (*array)->size_bytes(), room = Room(bytes);
    if (room > left) return WrongSize();
    std::memcpy((*array)->untyped_data(), from, bytes);
    from += room;
    left -= room;
  }
  return left ? WrongSize() : ffi::Error::Success();
}

}  // namespace

HEADRACE_HANDLER(headrace_bundle, Bundle, ffi::Ffi::Bind().RemainingArgs().Ret<ffi::Buffer<ffi::U8>>());

HEADRACE_HANDLER(headrace_unbundle, Unbundle, ffi::Ffi::Bind().Arg<ffi::Buffer<ffi::U8>>().RemainingRets());

}  // namespace headrace
