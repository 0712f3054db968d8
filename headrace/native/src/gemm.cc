#include "gemm.h"

#include <immintrin.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <new>
#include <utility>

// A tile of the result, kRows by kColumns, stays in registers while a panel of `a` and one of `b` are gone through. A block of
// `b` (kDepth rows; as many columns as half of the second-level cache holds) is packed first: panels of kColumns columns, row
// by row. A panel of `a` is copied when its turn comes, into the first-level cache: rows whose distance is a power of two would
// drive one another out of it.

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx512f,avx512dq,avx512vl,avx512bw,fma"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx512f,avx512dq,avx512vl,avx512bw,fma")
#endif

namespace headrace {
namespace {

#define HEADRACE_INLINE inline __attribute__((always_inline))

constexpr int64_t kLanes = 16;
constexpr int64_t kRows = 14, kColumns = 2 * kLanes;
constexpr int64_t kDepth = 512;
// Of a copied panel of `a`: the distance of its rows where they lie one behind the other, or of its columns.
constexpr int64_t kRowStride = kDepth + kLanes, kColumnStride = kLanes;
// How many rows of `b` ahead of its use a row is asked for, and after how many the next lines of memory are.
constexpr int64_t kAhead = 16, kSlot = 8;

// Lines of memory that will be read soon, brought into the second-level cache a few at a time: many at once would hold up
// what the tiles themselves wait for.
struct Soon {
  HEADRACE_INLINE void Next() {
    for (int64_t i = rows ? each : 0; i > 0; --i) {
      _mm_prefetch(at + line * kLanes + offset, _MM_HINT_T1);
      if (++line < lines) continue;
      line = 0;
      at += stride;
      if (--rows == 0) return;
    }
  }
  const float* at;
  int64_t rows, lines, stride, offset, each, line;
};

template <int R, int V, bool kByColumns>
HEADRACE_INLINE void Step(__m512 (&sum)[R][V], const float* a, const float* b) {
  __m512 right[V];
#pragma GCC unroll 2
  for (int v = 0; v < V; ++v) {
    right[v] = _mm512_loadu_ps(b + v * kLanes);
    _mm_prefetch(b + kAhead * kColumns + v * kLanes, _MM_HINT_T0);
  }
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r) {
    const __m512 left = _mm512_set1_ps(a[r * (kByColumns ? 1 : kRowStride)]);
#pragma GCC unroll 2
    for (int v = 0; v < V; ++v) sum[r][v] = _mm512_fmadd_ps(left, right[v], sum[r][v]);
  }
}

// One tile, R rows of V vectors, the last of them cut off by `last`: of a copied panel of `a` and a packed one of `b`.
template <int R, int V, bool kByColumns>
void Tile(int64_t depth, const float* a, const float* b, float* out, int64_t stride, __mmask16 last, bool add,
          Soon& soon) {
  constexpr int64_t step = kByColumns ? kColumnStride : 1;
  __m512 sum[R][V];
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 2
    for (int v = 0; v < V; ++v) sum[r][v] = _mm512_setzero_ps();
  }
  int64_t k = 0;
  int asked = 0;
  for (; k + kSlot <= depth; k += kSlot) {
    if (asked < R) {
      __builtin_prefetch(out + asked * stride, 1);
      if (V > 1) __builtin_prefetch(out + asked * stride + kLanes, 1);
      ++asked;
    }
    soon.Next();
#pragma GCC unroll 8
    for (int i = 0; i < kSlot; ++i) Step<R, V, kByColumns>(sum, a + i * step, b + i * kColumns);
    a += kSlot * step;
    b += kSlot * kColumns;
  }
  for (; k < depth; ++k, a += step, b += kColumns) Step<R, V, kByColumns>(sum, a, b);
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 2
    for (int v = 0; v < V; ++v) {
      float* to = out + r * stride + v * kLanes;
      const __mmask16 mask = v == V - 1 ? last : static_cast<__mmask16>(-1);
      if (add) sum[r][v] = _mm512_add_ps(sum[r][v], _mm512_maskz_loadu_ps(mask, to));
      _mm512_mask_storeu_ps(to, mask, sum[r][v]);
    }
  }
}

using TileFunction = void (*)(int64_t, const float*, const float*, float*, int64_t, __mmask16, bool, Soon&);

struct Tiles {
  TileFunction of[2][2][kRows];  // [by columns][vectors - 1][rows - 1]
};

template <int... R>
constexpr Tiles AllTiles(std::integer_sequence<int, R...>) {
  return {{{{Tile<R + 1, 1, false>...}, {Tile<R + 1, 2, false>...}},
           {{Tile<R + 1, 1, true>...}, {Tile<R + 1, 2, true>...}}}};
}

constexpr Tiles kTiles = AllTiles(std::make_integer_sequence<int, kRows>());

HEADRACE_INLINE __mmask16 First(int64_t n) {
  return static_cast<__mmask16>(n >= kLanes ? 0xffff : n <= 0 ? 0 : (1u << n) - 1);
}

// Columns of `from` become rows of `to`: `rows` by `columns` of it, 16 at most, behind which there are zeros.
void Transpose(const float* from, int64_t from_stride, int64_t rows, int64_t columns, float* to, int64_t to_stride) {
  const __mmask16 mask = First(columns);
  __m512 x[16], y[16];
#pragma GCC unroll 16
  for (int i = 0; i < 16; ++i) {
    x[i] = i < rows ? _mm512_maskz_loadu_ps(mask, from + i * from_stride) : _mm512_setzero_ps();
  }
#pragma GCC unroll 8
  for (int i = 0; i < 16; i += 2) {
    y[i] = _mm512_unpacklo_ps(x[i], x[i + 1]);
    y[i + 1] = _mm512_unpackhi_ps(x[i], x[i + 1]);
  }
  // Then x[4 g + c] has, of the rows 4 g to 4 g + 3, the columns c, 4 + c, 8 + c and 12 + c.
#pragma GCC unroll 8
  for (int i = 0; i < 16; i += 2) {
    const int half = i % 4 / 2, first = i - 2 * half + half;
    const __m512d low = _mm512_castps_pd(y[first]), high = _mm512_castps_pd(y[first + 2]);
    x[i] = _mm512_castpd_ps(_mm512_unpacklo_pd(low, high));
    x[i + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(low, high));
  }
#pragma GCC unroll 4
  for (int c = 0; c < 4; ++c) {
    const __m512 even = _mm512_shuffle_f32x4(x[c], x[4 + c], 0x88), even2 = _mm512_shuffle_f32x4(x[8 + c], x[12 + c], 0x88);
    const __m512 odd = _mm512_shuffle_f32x4(x[c], x[4 + c], 0xdd), odd2 = _mm512_shuffle_f32x4(x[8 + c], x[12 + c], 0xdd);
    y[c] = _mm512_shuffle_f32x4(even, even2, 0x88);
    y[4 + c] = _mm512_shuffle_f32x4(odd, odd2, 0x88);
    y[8 + c] = _mm512_shuffle_f32x4(even, even2, 0xdd);
    y[12 + c] = _mm512_shuffle_f32x4(odd, odd2, 0xdd);
  }
#pragma GCC unroll 16
  for (int i = 0; i < 16; ++i) {
    if (i < columns) _mm512_store_ps(to + i * to_stride, y[i]);
  }
}

// A panel of `b`, `depth` by `columns`, behind which there are zeros.
void Pack(const MatrixView& b, int64_t depth, int64_t columns, float* to) {
  if (b.column_stride != 1) {
    for (int64_t k = 0; k < depth; k += kLanes) {
      for (int64_t j = 0; j < kColumns; j += kLanes) {
        Transpose(b.data + j * b.column_stride + k, b.column_stride, columns - j, std::min(kLanes, depth - k),
                  to + k * kColumns + j, kColumns);
      }
    }
    return;
  }
  const __mmask16 low = First(columns), high = First(columns - kLanes);
  const float* from = b.data;
  for (int64_t k = 0; k < depth; ++k, from += b.row_stride, to += kColumns) {
    _mm_prefetch(from + kAhead * b.row_stride, _MM_HINT_T0);
    _mm_prefetch(from + kAhead * b.row_stride + kLanes, _MM_HINT_T0);
    _mm512_store_ps(to, _mm512_maskz_loadu_ps(low, from));
    _mm512_store_ps(to + kLanes, _mm512_maskz_loadu_ps(high, from + kLanes));
  }
}

// A panel of `a`, `rows` by `depth`.
void Copy(const MatrixView& a, int64_t rows, int64_t depth, float* to) {
  const float* from = a.data;
  if (a.column_stride != 1) {
    const __mmask16 mask = First(rows);
    for (int64_t k = 0; k < depth; ++k, from += a.column_stride, to += kColumnStride) {
      _mm512_store_ps(to, _mm512_maskz_loadu_ps(mask, from));
    }
    return;
  }
  for (int64_t r = 0; r < rows; ++r, from += a.row_stride, to += kRowStride) {
    int64_t k = 0;
    for (; k + kLanes <= depth; k += kLanes) _mm512_store_ps(to + k, _mm512_loadu_ps(from + k));
    if (k < depth) _mm512_store_ps(to + k, _mm512_maskz_loadu_ps(First(depth - k), from + k));
  }
}

HEADRACE_INLINE MatrixView At(const MatrixView& m, int64_t row, int64_t column) {
  return {m.data + row * m.row_stride + column * m.column_stride, m.row_stride, m.column_stride};
}

// What a panel of `a` will need, asked for during `tiles` tiles.
Soon PanelSoon(const MatrixView& a, int64_t rows, int64_t depth, int64_t tiles) {
  const int64_t slots = std::max<int64_t>(depth / kSlot * tiles, 1);
  if (rows == 0) return {};
  if (a.column_stride != 1) {  // the beginning of each line came with the panel before
    return {a.data, depth, 1, a.column_stride, rows - 1, (depth + slots - 1) / slots, 0};
  }
  const int64_t lines = (depth + kLanes - 1) / kLanes;
  return {a.data, rows, lines, a.row_stride, 0, (rows * lines + slots - 1) / slots, 0};
}

// Memory of this thread, aligned to pages.
float* Memory(int64_t floats) {
  struct Block {
    ~Block() { std::free(data); }
    void* data = nullptr;
    size_t size = 0;
  };
  constexpr size_t kPage = 4096;
  thread_local Block block;
  const size_t size = (floats * sizeof(float) + kPage - 1) / kPage * kPage;
  if (size > block.size) {
    std::free(block.data);
    block.size = 0;
    block.data = std::aligned_alloc(kPage, size);
    if (!block.data) throw std::bad_alloc();
    block.size = size;
  }
  return static_cast<float*>(block.data);
}

int64_t SecondLevelCache() {
  constexpr int64_t kLeast = 256 << 10;
  static const int64_t size = std::max<int64_t>(sysconf(_SC_LEVEL2_CACHE_SIZE), kLeast);
  return size;
}

}  // namespace

bool HasGemm() {
  static const bool has = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
                          __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512bw");
  return has;
}

void Gemm(int64_t rows, int64_t columns, int64_t inner, const MatrixView& a, const MatrixView& b, float* out,
          int64_t stride) {
  const int64_t blocks = (inner + kDepth - 1) / kDepth, panels = (rows + kRows - 1) / kRows;
  const int64_t deepest = (inner + blocks - 1) / blocks;
  const int64_t fits = std::max(SecondLevelCache() / 2 / (deepest * int64_t{sizeof(float)}) / kColumns * kColumns, kColumns);
  const int64_t bands = (columns + fits - 1) / fits;
  const int64_t widest = ((columns + bands - 1) / bands + kColumns - 1) / kColumns * kColumns;
  const auto& tiles = kTiles.of[a.column_stride != 1];
  constexpr int64_t kPanel = std::max(kRows * kRowStride, kDepth * kColumnStride);
  float* const left = Memory(kPanel + deepest * widest);
  float* const right = left + kPanel;
  for (int64_t column = 0; column < columns; column += widest) {
    const int64_t width = std::min(widest, columns - column);
    for (int64_t block = 0; block < blocks; ++block) {
      const int64_t k = inner * block / blocks, depth = inner * (block + 1) / blocks - k;
      for (int64_t j = 0; j < width; j += kColumns) {
        Pack(At(b, k, column + j), depth, std::min(kColumns, width - j), right + j * depth);
      }
      for (int64_t panel = 0; panel < panels; ++panel) {
        const int64_t row = rows * panel / panels, end = rows * (panel + 1) / panels, n = end - row;
        const int64_t after = std::min(rows * (panel + 2) / panels, rows) - end;
        Copy(At(a, row, k), n, depth, left);
        Soon soon = PanelSoon(At(a, end, k), after, depth, (width + kColumns - 1) / kColumns);
        for (int64_t j = 0; j < width; j += kColumns) {
          const int64_t here = std::min(kColumns, width - j);
          const int vectors = here > kLanes ? 2 : 1;
          tiles[vectors - 1][n - 1](depth, left, right + j * depth, out + row * stride + column + j, stride,
                                    First(here - (vectors - 1) * kLanes), block > 0, soon);
        }
      }
    }
  }
}

}  // namespace headrace

#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif
