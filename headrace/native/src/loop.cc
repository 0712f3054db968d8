// A whole loop in one call: products with packed matrices, elementwise programs, lists. See native/loops/, which makes
// the programs.

#include <cstring>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "elementwise.h"
#include "host_pool.h"
#include "packed.h"
#include "parallel.h"
#include "program_reader.h"
#include "scalars.h"
#include "team.h"
#include "workspace.h"

namespace headrace {
namespace {

namespace ffi = xla::ffi;

// A chunk of elementwise work, in operations on single numbers: about ten microseconds.
constexpr int64_t kWorkPerChunk = 64 * 1024;
constexpr int64_t kColumnsPerChunk = 128;

// An operand or a result of the loop: its first axis is the one that lists are read and written along.
struct Array {
  char* data;
  int64_t length;
};

enum class BaseKind : int64_t { kInput, kOutput, kScratch, kElement, kCarried, kCarriedNext };

// Where an operand lies in one iteration.
struct Base {
  BaseKind kind;
  int64_t index, place;  // place: of kElement the scalar that counts elements
};

struct CarriedScalar {
  int64_t scalar, next, input, output, size;
};

struct CarriedArray {
  int64_t input, output, bytes, scratch;
};

struct ListOperand {
  int64_t input, output, size;  // output: -1 if the loop only reads it
};

struct Dot {
  PackedProduct product;
  int64_t a, a_offset, packed, out, out_offset;
};

// Sums (or the largest) of the columns of a matrix, or of its rows.
struct Reduction {
  bool is_max, of_rows;
  int64_t from, offset, rows, columns, stride, out, out_offset;

  int64_t Chunks() const { return of_rows ? 1 : (columns + kColumnsPerChunk - 1) / kColumnsPerChunk; }

  void Run(int64_t chunk, char* const* bases) const {
    const float* in = reinterpret_cast<const float*>(bases[from]) + offset;
    float* result = reinterpret_cast<float*>(bases[out]) + out_offset;
    if (of_rows) {
      for (int64_t r = 0; r < rows; ++r) result[r] = OfRow(in + r * stride);
      return;
    }
    const int64_t first = chunk * kColumnsPerChunk, last = std::min(columns, first + kColumnsPerChunk);
    const auto start = is_max ? -__builtin_inff() : 0.0f;
    for (int64_t c = first; c < last; ++c) result[c] = start;
    for (int64_t r = 0; r < rows; ++r) {
      const float* row = in + r * stride;
      if (is_max) {
        for (int64_t c = first; c < last; ++c) result[c] = Larger(result[c], row[c]);
      } else {
        for (int64_t c = first; c < last; ++c) result[c] += row[c];
      }
    }
  }

 private:
  // A NaN on either side is the result.
  static float Larger(float a, float b) { return a > b || a != a ? a : b; }

  float OfRow(const float* row) const {
    // Sixteen sums side by side, as a vector would hold them.
    constexpr int kLanes = 16;
    float lanes[kLanes];
    for (float& lane : lanes) lane = is_max ? -__builtin_inff() : 0.0f;
    for (int64_t c = 0; c < columns; ++c) {
      float& lane = lanes[c % kLanes];
      lane = is_max ? Larger(lane, row[c]) : lane + row[c];
    }
    for (int half = kLanes / 2; half; half /= 2) {
      for (int i = 0; i < half; ++i) lanes[i] = is_max ? Larger(lanes[i], lanes[i + half]) : lanes[i] + lanes[i + half];
    }
    return lanes[0];
  }
};

struct Elementwise {
  ElementwiseProgram program;
  int64_t chunks = 1;
};

// What can be computed at the same time, between one meeting of all threads and the next.
struct Phase {
  std::vector<Elementwise> elementwise;
  std::vector<Dot> dots;
  std::vector<Reduction> reductions;
  int64_t chunks = 0;
};

struct Program {
  int64_t scalars, scratch_bytes;
  std::vector<CarriedScalar> carried_scalars;
  std::vector<CarriedArray> carried;
  std::vector<ListOperand> lists;
  std::vector<Base> bases;
  std::vector<ScalarInstruction> code;
  std::vector<Phase> phases;

  explicit Program(Reader in) {
    scalars = in.Next();
    scratch_bytes = in.Next();
    in.ForEach([&] { carried_scalars.push_back({in.Next(), in.Next(), in.Next(), in.Next(), in.Next()}); });
    in.ForEach([&] { carried.push_back({in.Next(), in.Next(), in.Next(), in.Next()}); });
    in.ForEach([&] { lists.push_back({in.Next(), in.Next(), in.Next()}); });
    in.ForEach([&] { bases.push_back({static_cast<BaseKind>(in.Next()), in.Next(), in.Next()}); });
    in.ForEach([&] {
      code.push_back({static_cast<ScalarOp>(in.Next()), in.Next(), in.Next(), in.Next(), in.Next()});
    });
    in.ForEach([&] { phases.push_back(ReadPhase(in)); });
  }

  // Cuts the work of each phase for a number of threads.
  void Cut(int64_t threads) {
    for (Phase& phase : phases) {
      phase.chunks = 0;
      for (Elementwise& e : phase.elementwise) {
        const int64_t work = e.program.rows * e.program.columns * static_cast<int64_t>(e.program.code.size());
        const int64_t most = std::min(threads, e.program.Blocks());
        e.chunks = std::clamp<int64_t>(work / kWorkPerChunk, 1, std::max<int64_t>(most, 1));
        phase.chunks += e.chunks;
      }
      for (const Dot& dot : phase.dots) phase.chunks += dot.product.Pieces();
      for (const Reduction& r : phase.reductions) phase.chunks += r.Chunks();
      if (phase.chunks > Team::kMostChunks) throw std::runtime_error("a phase of a loop has too many chunks");
    }
  }

 private:
  static Phase ReadPhase(Reader& in) {
    Phase phase;
    in.ForEach([&] { phase.elementwise.push_back({ReadElementwise(in)}); });
    in.ForEach([&] {
      const int64_t rows = in.Next(), inner = in.Next(), columns = in.Next(), pieces = in.Next();
      phase.dots.push_back({PackedProduct(rows, inner, columns, pieces), in.Next(), in.Next(), in.Next(), in.Next(),
                            in.Next()});
    });
    in.ForEach([&] {
      phase.reductions.push_back({in.Next() != 0, in.Next() != 0, in.Next(), in.Next(), in.Next(), in.Next(),
                                  in.Next(), in.Next(), in.Next()});
    });
    return phase;
  }
};

// One run of a program.
class Loop {
 public:
  Loop(const Program& program, std::vector<Array> inputs, std::vector<Array> outputs)
      : program_(program), inputs_(std::move(inputs)), outputs_(std::move(outputs)),
        scratch_(program.scratch_bytes), scalars_(program.scalars), bases_(program.bases.size()) {
    for (const ListOperand& list : program.lists) {
      const Array &in = inputs_.at(list.input), &data = list.output < 0 ? in : outputs_.at(list.output);
      if (data.data != in.data) std::memcpy(data.data, in.data, in.length * list.size);
      lists_.push_back({data.data, data.length, list.size});
    }
    for (const CarriedScalar& s : program.carried_scalars) {
      scalars_.at(s.scalar) = LoadInteger(inputs_.at(s.input).data, s.size);
    }
  }

  template <typename Pool>
  void Run(Pool& pool, int64_t trips) {
    OneThread one;
    const auto run = [this](int64_t chunk) { RunChunk(chunk); };
    Team team(pool, run);
    std::vector<int64_t> next(program_.carried_scalars.size());
    for (int64_t trip = 0; trip < trips; ++trip) {
      RunScalars(program_.code, lists_, scalars_.data());
      for (size_t i = 0; i < bases_.size(); ++i) bases_[i] = Resolve(program_.bases[i], trip, trips);
      for (const Phase& phase : program_.phases) {
        phase_ = &phase;
        team.ForEach(phase.chunks);
      }
      for (size_t i = 0; i < next.size(); ++i) next[i] = scalars_[program_.carried_scalars[i].next];
      for (size_t i = 0; i < next.size(); ++i) scalars_[program_.carried_scalars[i].scalar] = next[i];
    }
    for (const CarriedScalar& s : program_.carried_scalars) {
      StoreInteger(scalars_[s.scalar], outputs_.at(s.output).data, s.size);
    }
    if (trips == 0) {
      for (const CarriedArray& c : program_.carried) {
        std::memcpy(outputs_.at(c.output).data, inputs_.at(c.input).data, c.bytes);
      }
    }
  }

 private:
  char* Scratch(int64_t at) const { return static_cast<char*>(scratch_.data()) + at; }

  char* Resolve(const Base& base, int64_t trip, int64_t trips) const {
    switch (base.kind) {
      case BaseKind::kInput: return inputs_[base.index].data;
      case BaseKind::kOutput: return outputs_[base.index].data;
      case BaseKind::kScratch: return Scratch(base.index);
      case BaseKind::kElement: return lists_[base.index].At(scalars_[base.place]);
      case BaseKind::kCarried: return Carried(program_.carried[base.index], trip, trips);
      case BaseKind::kCarriedNext: return Carried(program_.carried[base.index], trip + 1, trips);
    }
    return nullptr;
  }

  // The value before an iteration: two places take turns, so that the last one is the result.
  char* Carried(const CarriedArray& carried, int64_t trip, int64_t trips) const {
    if (trip == 0) return inputs_[carried.input].data;
    return (trips - trip) % 2 ? Scratch(carried.scratch) : outputs_[carried.output].data;
  }

  void RunChunk(int64_t chunk) const {
    for (const Dot& dot : phase_->dots) {
      if (chunk < dot.product.Pieces()) {
        dot.product.Run(chunk, Floats(dot.a) + dot.a_offset, Floats(dot.packed), Floats(dot.out) + dot.out_offset);
        return;
      }
      chunk -= dot.product.Pieces();
    }
    for (const Elementwise& e : phase_->elementwise) {
      if (chunk < e.chunks) {
        const int64_t blocks = e.program.Blocks();
        e.program.Run(blocks * chunk / e.chunks, blocks * (chunk + 1) / e.chunks, bases_.data(), scalars_.data());
        return;
      }
      chunk -= e.chunks;
    }
    for (const Reduction& reduction : phase_->reductions) {
      if (chunk < reduction.Chunks()) return reduction.Run(chunk, bases_.data());
      chunk -= reduction.Chunks();
    }
  }

  float* Floats(int64_t base) const { return reinterpret_cast<float*>(bases_[base]); }

  const Program& program_;
  const std::vector<Array> inputs_, outputs_;
  Workspace scratch_;
  std::vector<int64_t> scalars_;
  std::vector<char*> bases_;
  std::vector<List> lists_;
  const Phase* phase_ = nullptr;
};

template <typename Pool>
void RunLoop(Pool& pool, const int64_t* code, size_t count, int64_t trips, std::vector<Array> inputs,
             std::vector<Array> outputs) {
  Program program(Reader(code, count));
  program.Cut(Threads(pool));
  Loop(program, std::move(inputs), std::move(outputs)).Run(pool, trips);
}

Array ArrayOf(void* data, ffi::Span<const int64_t> dims) {
  return {static_cast<char*>(data), dims.size() ? dims[0] : 1};
}

ffi::Error RunProgram(ffi::ThreadPool pool, ffi::RemainingArgs arguments, ffi::RemainingRets results,
                      ffi::Span<const int64_t> code, int64_t trips) {
  std::vector<Array> inputs, outputs;
  for (size_t i = 0; i < arguments.size(); ++i) {
    const auto buffer = arguments.get<ffi::AnyBuffer>(i);
    if (!buffer.has_value()) return buffer.error();
    inputs.push_back(ArrayOf(buffer->untyped_data(), buffer->dimensions()));
  }
  for (size_t i = 0; i < results.size(); ++i) {
    auto buffer = results.get<ffi::AnyBuffer>(i);
    if (!buffer.has_value()) return buffer.error();
    outputs.push_back(ArrayOf((*buffer)->untyped_data(), (*buffer)->dimensions()));
  }
  try {
    RunLoop(pool, code.begin(), code.size(), trips, std::move(inputs), std::move(outputs));
  } catch (const std::exception& error) {
    return ffi::Error::Internal(std::string("headrace_loop: ") + error.what());
  }
  return ffi::Error::Success();
}

}  // namespace

// The same for arrays that no program of XLA has to do with; lengths: of the first axes. Returns whether it was possible.
extern "C" __attribute__((visibility("default"))) int64_t headrace_host_loop(
    const int64_t* code, int64_t count, int64_t trips, int64_t n_inputs, void* const* inputs,
    const int64_t* input_lengths, int64_t n_outputs, void* const* outputs, const int64_t* output_lengths) {
  std::vector<Array> in, out;
  for (int64_t i = 0; i < n_inputs; ++i) in.push_back({static_cast<char*>(inputs[i]), input_lengths[i]});
  for (int64_t i = 0; i < n_outputs; ++i) out.push_back({static_cast<char*>(outputs[i]), output_lengths[i]});
  try {
    RunLoop(HostPool::Get(), code, count, trips, std::move(in), std::move(out));
  } catch (const std::exception&) {
    return 0;
  }
  return 1;
}

// How often the number `goes_on` is true before it is not, -1: more than `most` times. code: instructions, five numbers each;
// carried: registers, those of their next values, and what they start with; lists: addresses, lengths, sizes of elements.
extern "C" __attribute__((visibility("default"))) int64_t headrace_host_count(
    const int64_t* code, int64_t instructions, const int64_t* carried, int64_t n_carried, const int64_t* lists,
    int64_t n_lists, int64_t registers, int64_t goes_on, int64_t most) {
  std::vector<ScalarInstruction> all;
  for (const int64_t* i = code; i != code + 5 * instructions; i += 5) {
    all.push_back({static_cast<ScalarOp>(i[0]), i[1], i[2], i[3], i[4]});
  }
  std::vector<List> read;
  for (const int64_t* i = lists; i != lists + 3 * n_lists; i += 3) {
    read.push_back({reinterpret_cast<char*>(i[0]), i[1], i[2]});
  }
  std::vector<int64_t> values(registers), next(n_carried);
  for (int64_t i = 0; i < n_carried; ++i) values[carried[3 * i]] = carried[3 * i + 2];
  for (int64_t trips = 0; trips <= most; ++trips) {
    RunScalars(all, read, values.data());
    if (!values[goes_on]) return trips;
    for (int64_t i = 0; i < n_carried; ++i) next[i] = values[carried[3 * i + 1]];
    for (int64_t i = 0; i < n_carried; ++i) values[carried[3 * i]] = next[i];
  }
  return -1;
}

HEADRACE_HANDLER(headrace_loop, RunProgram,
                 ffi::Ffi::Bind()
                     .Ctx<ffi::ThreadPool>()
                     .RemainingArgs()
                     .RemainingRets()
                     .Attr<ffi::Span<const int64_t>>("code")
                     .Attr<int64_t>("trips"));

}  // namespace headrace
