// Elementwise programs over whole arrays that no program of XLA has to do with.

#include <algorithm>
#include <exception>

#include "elementwise.h"
#include "host_pool.h"
#include "parallel.h"
#include "program_reader.h"

namespace headrace {
namespace {

// A chunk, in operations on single numbers: some tens of microseconds.
constexpr int64_t kWorkPerChunk = 256 * 1024;
// More chunks than threads, for where one thread is held up.
constexpr int64_t kChunksPerThread = 4;

}  // namespace

// code: a program as native/loops/elementwise.py encodes it; arrays: its bases. Returns whether it could be run.
extern "C" __attribute__((visibility("default"))) int64_t headrace_host_elementwise(const int64_t* code, int64_t count,
                                                                                 void* const* arrays) {
  try {
    Reader in(code, count);
    const ElementwiseProgram program = ReadElementwise(in);
    const auto bases = reinterpret_cast<char* const*>(arrays);
    HostPool& pool = HostPool::Get();
    const int64_t blocks = program.Blocks();
    const int64_t work = program.rows * program.columns * static_cast<int64_t>(program.code.size());
    const int64_t most = std::min(blocks, Threads(pool) * kChunksPerThread);
    const int64_t chunks = std::clamp<int64_t>(work / kWorkPerChunk, 1, std::max<int64_t>(most, 1));
    ForEachChunk(pool, chunks, [&](int64_t chunk) {
      program.Run(blocks * chunk / chunks, blocks * (chunk + 1) / chunks, bases, nullptr);
    });
  } catch (const std::exception&) {
    return 0;
  }
  return 1;
}

}  // namespace headrace
