// The convolution's inner loops on integers of 8 bits, which are summed in 32: the same numbers on every processor.
#pragma once

#include <cstdint>

namespace tsp3d {

constexpr int64_t kInt8Lanes = 16;  // output channels of packed weights are padded to whole vectors of so many sums
constexpr int64_t kInt8Depth = 4;   // input channels that are multiplied and added at once; cin is padded to them

struct MicroInt8 {
  int lanes;  // sums in a vector
  int bytes;  // of a number of quantised features: 1 with `zero` added, or 2 without

  // q = min(max(round(x * inverse), -zero), 255 - zero) of rows of `cin` numbers; each row is padded to whole depths.
  void (*quantise)(const float* x, int64_t rows, int64_t cin, float inverse, int32_t zero, void* result);

  // out[o] += start + in[i] @ w for `count` pairs. in: quantised rows of `depths` * kInt8Depth numbers. w (depths,
  // w_stride / 4, 4): output channels, and of each the input channels of a depth side by side; vectors * lanes of the
  // output channels are used, vectors is 1 or 2. start: what takes `zero` out of the sums again, if it was added. in_rows
  // and out_rows are the pairs; out row numbers count from `first_out`.
  void (*conv)(const void* in, int64_t depths, int32_t* out, int64_t out_stride, const int8_t* w, int64_t w_stride,
               int vectors, const int32_t* start, const int32_t* in_rows, const int32_t* out_rows, int64_t count,
               int32_t first_out);

  // result (rows, cout) = sums (rows, stride) * scales + bias + residual, then max(., 0) where `relu`. bias (cout,) and
  // residual (rows, cout) may be null.
  void (*finish)(const int32_t* sums, int64_t stride, int64_t rows, int64_t cout, const float* scales, const float* bias,
                 const float* residual, bool relu, float* result);
};

const MicroInt8& micro_int8();

}  // namespace tsp3d
