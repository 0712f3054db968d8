// Batch normalisation of rows of channels in float32, for arrays that no program of XLA has to do with, and its gradient.
// Rows are cut into chunks by their number alone: sums come out the same whatever thread computes which.

#include <cmath>
#include <vector>

#include "host_pool.h"
#include "parallel.h"

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx2,fma")
#endif

namespace headrace {
namespace {

// sum[c] += x[i, c]
void Sum(const float* __restrict x, int64_t rows, int64_t channels, double* __restrict sum) {
  for (int64_t i = 0; i < rows; ++i, x += channels) {
    for (int64_t c = 0; c < channels; ++c) sum[c] += x[c];
  }
}

// sum[c] += (x[i, c] - mean[c])^2
void SumSquares(const float* __restrict x, int64_t rows, int64_t channels, const float* __restrict mean,
                double* __restrict sum) {
  for (int64_t i = 0; i < rows; ++i, x += channels) {
    for (int64_t c = 0; c < channels; ++c) {
      const float d = x[c] - mean[c];
      sum[c] += d * d;
    }
  }
}

// y = (x - mean) factor + offset
void Normalize(const float* __restrict x, int64_t rows, int64_t channels, const float* __restrict mean,
               const float* __restrict factor, const float* __restrict offset, float* __restrict y) {
  for (int64_t i = 0; i < rows; ++i, x += channels, y += channels) {
    for (int64_t c = 0; c < channels; ++c) y[c] = (x[c] - mean[c]) * factor[c] + offset[c];
  }
}

// sum[c] += dy[i, c], sum_x[c] += dy[i, c] (x[i, c] - mean[c])
void SumGradients(const float* __restrict dy, const float* __restrict x, int64_t rows, int64_t channels,
                  const float* __restrict mean, double* __restrict sum, double* __restrict sum_x) {
  for (int64_t i = 0; i < rows; ++i, x += channels, dy += channels) {
    for (int64_t c = 0; c < channels; ++c) {
      sum[c] += dy[c];
      sum_x[c] += dy[c] * (x[c] - mean[c]);
    }
  }
}

// dx = factor (dy - share - (x - mean) slope)
void InputGradient(const float* __restrict dy, const float* __restrict x, int64_t rows, int64_t channels,
                   const float* __restrict mean, const float* __restrict factor, const float* __restrict share,
                   const float* __restrict slope, float* __restrict dx) {
  for (int64_t i = 0; i < rows; ++i, x += channels, dy += channels, dx += channels) {
    for (int64_t c = 0; c < channels; ++c) dx[c] = factor[c] * (dy[c] - share[c] - (x[c] - mean[c]) * slope[c]);
  }
}

}  // namespace
}  // namespace headrace

#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif

namespace headrace {
namespace {

constexpr int64_t kElementsPerChunk = 1 << 15;

// The rows of an array, cut into chunks.
struct Rows {
  int64_t rows, channels;

  int64_t per_chunk() const { return std::max<int64_t>(kElementsPerChunk / std::max<int64_t>(channels, 1), 1); }
  int64_t chunks() const { return (rows + per_chunk() - 1) / per_chunk(); }

  // fn(first element, number of rows, number of the chunk), for each chunk.
  template <typename Fn>
  void ForEach(const Fn& fn) const {
    ForEachChunk(HostPool::Get(), chunks(), [&](int64_t i) {
      const int64_t first = i * per_chunk();
      fn(first * channels, std::min(per_chunk(), rows - first), i);
    });
  }

  // Adds up `width` numbers that `fn(first element, rows, sums)` gives for each chunk.
  template <typename Fn>
  std::vector<double> Total(int64_t width, const Fn& fn) const {
    std::vector<double> parts(chunks() * width, 0.0), total(width, 0.0);
    ForEach([&](int64_t at, int64_t count, int64_t i) { fn(at, count, parts.data() + i * width); });
    for (size_t i = 0; i < parts.size(); ++i) total[i % width] += parts[i];
    return total;
  }
};

}  // namespace

// y = scale (x - mean) / sqrt(variance + epsilon) + offset; while training, mean and variance are computed first.
extern "C" __attribute__((visibility("default"))) void headrace_host_batch_norm(
    const float* x, const float* scale, const float* offset, float* mean, float* variance, float* y, int64_t rows,
    int64_t channels, int64_t training, double epsilon) {
  const Rows all{rows, channels};
  if (training) {
    const auto sum =
        all.Total(channels, [&](int64_t at, int64_t count, double* part) { Sum(x + at, count, channels, part); });
    for (int64_t c = 0; c < channels; ++c) mean[c] = static_cast<float>(sum[c] / rows);
    const auto squares = all.Total(channels, [&](int64_t at, int64_t count, double* part) {
      SumSquares(x + at, count, channels, mean, part);
    });
    for (int64_t c = 0; c < channels; ++c) variance[c] = static_cast<float>(squares[c] / rows);
  }
  std::vector<float> factor(channels);
  for (int64_t c = 0; c < channels; ++c) factor[c] = scale[c] / std::sqrt(variance[c] + static_cast<float>(epsilon));
  all.ForEach([&](int64_t at, int64_t count, int64_t) {
    Normalize(x + at, count, channels, mean, factor.data(), offset, y + at);
  });
}

// The gradient: dx, and those of scale and offset.
extern "C" __attribute__((visibility("default"))) void headrace_host_batch_norm_gradient(
    const float* dy, const float* x, const float* scale, const float* mean, const float* variance, float* dx,
    float* dscale, float* doffset, int64_t rows, int64_t channels, int64_t training, double epsilon) {
  const Rows all{rows, channels};
  const auto sums = all.Total(2 * channels, [&](int64_t at, int64_t count, double* part) {
    SumGradients(dy + at, x + at, count, channels, mean, part, part + channels);
  });
  std::vector<float> factor(channels), share(channels, 0.0f), slope(channels, 0.0f);
  for (int64_t c = 0; c < channels; ++c) {
    const double r = 1.0 / std::sqrt(variance[c] + epsilon), total = sums[c], total_x = sums[channels + c];
    factor[c] = static_cast<float>(scale[c] * r);
    doffset[c] = static_cast<float>(total);
    dscale[c] = static_cast<float>(total_x * r);
    if (training) {
      share[c] = static_cast<float>(total / rows);
      slope[c] = static_cast<float>(total_x * r * r / rows);
    }
  }
  all.ForEach([&](int64_t at, int64_t count, int64_t) {
    InputGradient(dy + at, x + at, count, channels, mean, factor.data(), share.data(), slope.data(), dx + at);
  });
}

}  // namespace headrace
