#include "checks.h"
#include "int8.h"
#include "parts.h"

namespace tsp3d {
namespace {

constexpr int64_t kInt8Terms = INT32_MAX / (255 * 128);  // products that a sum of 32 bits holds

void check_int8(const Tensor& feats, const Tensor& weight, const Tensor& scales, double step, int64_t zero,
                int64_t offsets) {
  STD_TORCH_CHECK(feats.dim() == 2 && weight.dim() == 4 && scales.dim() == 1,
                  "tsp3d: conv_int8 takes feats (N, Cin), weight (K, Cin / 4, Cout in 16s, 4), scales (Cout,)");
  STD_TORCH_CHECK(weight.scalar_type() == ScalarType::Char, "tsp3d: the weight of conv_int8 must be int8");
  STD_TORCH_CHECK(weight.size(1) == ceil_div(feats.size(1), kInt8Depth) &&
                      weight.size(2) == round_up(scales.size(0), kInt8Lanes) && weight.size(3) == kInt8Depth,
                  "tsp3d: weight is packed for ", kInt8Depth * weight.size(1), " and ", weight.size(2),
                  " channels, not for ", feats.size(1), " and ", scales.size(0));
  STD_TORCH_CHECK(offsets == weight.size(0), "tsp3d: the kernel map has ", offsets, " offsets, weight ", weight.size(0));
  STD_TORCH_CHECK(offsets * feats.size(1) <= kInt8Terms, "tsp3d: int8 sums of more than ", kInt8Terms, " products");
  STD_TORCH_CHECK(step > 0 && zero >= 0 && zero <= 255, "tsp3d: step must be positive and zero 0..255, got ", step,
                  " and ", zero);
}

}  // namespace

Tensor conv_int8(const Tensor& feats_, const Tensor& weight_, const Tensor& scales_, double step, int64_t zero,
                 const std::optional<Tensor>& bias_, const std::optional<Tensor>& residual_, const Tensor& in_rows,
                 const Tensor& out_rows, const Tensor& splits, int64_t num_out, bool relu) {
  const Map map(in_rows, out_rows, splits);
  check_int8(feats_, weight_, scales_, step, zero, map.volume);
  const int64_t rows = feats_.size(0), cin = feats_.size(1), cout = scales_.size(0);
  check_fused(feats_, num_out, cout, bias_, residual_);
  const Tensor feats = dense<float>(feats_, "feats"), scales = dense<float>(scales_, "scales");
  const Tensor weight = torch::stable::contiguous(weight_);
  const Tensor bias = bias_ ? dense<float>(*bias_, "bias") : feats;
  const Tensor residual = residual_ ? dense<float>(*residual_, "residual") : feats;
  Tensor out = make<float>(feats, {num_out, cout});
  if (num_out == 0 || cout == 0) return out;

  const MicroInt8& kernel = micro_int8();
  const int64_t depths = weight.size(1), padded = weight.size(2), lanes = kernel.lanes;
  const int64_t row_bytes = depths * kInt8Depth * kernel.bytes, w_stride = padded * kInt8Depth;
  const float inverse = static_cast<float>(1 / step);
  uint8_t* in = workspace<uint8_t, 0>(rows * row_bytes);
  parallel_ranges(rows, rows * row_bytes, [&](int64_t begin, int64_t end) {
    kernel.quantise(data<float>(feats) + begin * cin, end - begin, cin, inverse, static_cast<int32_t>(zero),
                    in + begin * row_bytes);
  });

  const int8_t* w = static_cast<const int8_t*>(weight.const_data_ptr());
  const auto add_from = [&](const int32_t* start, const void* source, int64_t k, int32_t* sums, const int32_t* in_rows,
                            const int32_t* out_rows, int64_t count, int32_t begin) {
    for (int64_t first = 0; first < padded; first += 2 * lanes)
      kernel.conv(source, depths, sums + first, padded, w + k * depths * w_stride + first * kInt8Depth, w_stride,
                  first + 2 * lanes <= padded ? 2 : 1, start + first, in_rows, out_rows, count, begin);
  };
  // Where `zero` was added to the features, each pair's sum is too large by that of a row of `zero`.
  int32_t* starts = workspace<int32_t, 1>((map.volume + 1) * padded);
  std::fill_n(starts, (map.volume + 1) * padded, 0);
  if (zero != 0 && kernel.bytes == 1) {
    const std::vector<uint8_t> level(row_bytes, static_cast<uint8_t>(zero));
    const int32_t row = 0, *none = starts + map.volume * padded;
    for (int64_t k = 0; k < map.volume; ++k) {
      int32_t* start = starts + k * padded;
      add_from(none, level.data(), k, start, &row, &row, 1, 0);
      for (int64_t c = 0; c < padded; ++c) start[c] = -start[c];
    }
  }

  float* result = mutable_data<float>(out);
  const auto start = [&](const Part& part) {
    int32_t* sums = workspace<int32_t, 3>((part.end - part.begin) * padded);
    std::fill_n(sums, (part.end - part.begin) * padded, 0);
    return sums;
  };
  const auto add = [&](const Part& part, int64_t k, int32_t* sums, const int32_t* in_rows, const int32_t* out_rows,
                       int64_t count) {
    add_from(starts + k * padded, in, k, sums, in_rows, out_rows, count, static_cast<int32_t>(part.begin));
  };
  const auto finish = [&](const Part& part, const int32_t* sums) {
    kernel.finish(sums, padded, part.end - part.begin, cout, data<float>(scales), bias_ ? data<float>(bias) : nullptr,
                  residual_ ? data<float>(residual) + part.begin * cout : nullptr, relu, result + part.begin * cout);
  };
  in_parts<int32_t>(map, num_out, cin * cout, padded, padded, start, add, finish);
  return out;
}

}  // namespace tsp3d
