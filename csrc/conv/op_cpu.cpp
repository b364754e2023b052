#include "checks.h"

#include <algorithm>
#include <numeric>

#include "../common/prefetch.h"
#include "bf16.h"
#include "blocks.h"
#include "micro.h"

namespace tsp3d {
namespace {

constexpr int64_t kChunkBytes = 160 * 1024;  // what the pairs of a run of the weight gradient's tiles may take of L1 and L2

// weight (K, cin, cout) as op.h has panels of it.
template <class T>
void pack(const Tensor& weight, T* panels) {
  const int64_t volume = weight.size(0), cin = weight.size(1), cout = weight.size(2), padded = round_up(cout, kPanel);
  const int64_t strides[3] = {weight.stride(0), weight.stride(1), weight.stride(2)};
  parallel_items(volume, volume * cin * padded, [&](int64_t k) {
    T* target = panels + k * cin * padded;
    const T* source = data<T>(weight) + k * strides[0];
    if (strides[2] == 1) {  // row by row, as it lies in memory
      for (int64_t c = 0; c < cin; ++c, source += strides[1])
        for (int64_t first = 0; first < padded; first += kPanel) {
          const int64_t real = std::min(kPanel, cout - first);
          T* row = target + first * cin + c * kPanel;
          std::copy_n(source + first, real, row);
          std::fill(row + real, row + kPanel, T(0));
        }
      return;
    }
    // Transposed: a few channels at a time, so that a cache line of each row is read once.
    for (int64_t first = 0; first < padded; first += kPanel)
      for (int64_t c0 = 0; c0 < cin; c0 += 16) {
        const int64_t channels = std::min<int64_t>(16, cin - c0);
        for (int64_t j = 0; j < kPanel; ++j) {
          const T* column = source + c0 * strides[1] + (first + j) * strides[2];
          for (int64_t c = 0; c < channels; ++c) target[c * kPanel + j] = first + j < cout ? column[c * strides[1]] : T(0);
        }
        target += channels * kPanel;
      }
  });
}

// What is added to each row of a convolution, and whether negative numbers become zero.
template <class T>
struct Epilogue {
  const T *bias = nullptr, *residual = nullptr;
  bool relu = false;

  // What the sums of rows begin..end start from. `padded` numbers a row; those past cout are zero.
  void start(T* sums, int64_t begin, int64_t end, int64_t cout, int64_t padded) const {
    for (int64_t r = begin; r < end; ++r, sums += padded) {
      if (residual && bias)
        for (int64_t c = 0; c < cout; ++c) sums[c] = residual[r * cout + c] + bias[c];
      else if (residual || bias)
        std::copy_n(residual ? residual + r * cout : bias, cout, sums);
      else
        std::fill_n(sums, cout, T(0));
      std::fill_n(sums + cout, padded - cout, T(0));
    }
  }
  void finish(T* sums, int64_t count) const {
    if (!relu) return;
    for (int64_t i = 0; i < count; ++i) sums[i] = sums[i] < T(0) ? T(0) : sums[i];  // keeps NaN
  }
};

// The result of a convolution whose sums are of its own type: add as in_blocks has it.
template <class T, class Add>
Tensor summed(const Tensor& like, const Map& map, int64_t num_out, int64_t cin, int64_t cout, int64_t padded,
              const Epilogue<T>& epilogue, const Add& add) {
  Tensor out = make<T>(like, {num_out, cout});
  if (num_out == 0 || cout == 0) return out;
  T* result = mutable_data<T>(out);
  const auto start = [&](int64_t begin, int64_t end) {
    T* sums = padded == cout ? result + begin * cout : workspace<T, 3>((end - begin) * padded);
    epilogue.start(sums, begin, end, cout, padded);
    return sums;
  };
  const auto finish = [&](T* sums, int64_t begin, int64_t end) {
    epilogue.finish(sums, (end - begin) * padded);
    if (padded != cout)
      for (int64_t r = begin; r < end; ++r)
        std::copy_n(sums + (r - begin) * padded, cout, result + r * cout);
  };
  in_blocks<T>(map, num_out, cin * cout, padded, start, add, finish);
  return out;
}

// panels of a weight (K, cin, cout), as op.h has them.
template <class T>
Tensor conv_t(const Tensor& feats_, const T* panels, int64_t cout, const Map& map, int64_t num_out,
              const Epilogue<T>& epilogue = {}) {
  const Tensor feats = dense<T>(feats_, "feats");
  const Micro<T>& kernel = micro<T>();
  const int64_t cin = feats.size(1), lanes = kernel.lanes;
  const int64_t padded = round_up(cout, lanes), size = cin * round_up(cout, kPanel);
  const T* in = data<T>(feats);
  const auto add = [&](int64_t k, T* sums, const int32_t* in_rows, const int32_t* out_rows, int64_t count, int32_t begin) {
    for (int64_t first = 0; first < padded; first += 2 * lanes) {
      const T* w = panels + k * size + first / kPanel * kPanel * cin + first % kPanel;
      const int vectors = first + 2 * lanes <= padded ? 2 : 1;
      kernel.conv(in, cin, sums + first, padded, w, cin, vectors, in_rows, out_rows, count, begin);
    }
  };
  return summed<T>(feats, map, num_out, cin, cout, padded, epilogue, add);
}

// Features rounded to bfloat16, panels in it, sums in float32.
Tensor conv_in_bf16(const Tensor& feats_, const uint16_t* panels, int64_t cout, const Map& map, int64_t num_out,
                    const Epilogue<float>& epilogue) {
  const Tensor feats = dense<float>(feats_, "feats");
  const int64_t rows = feats.size(0), cin = feats.size(1), even = round_up(cin, 2);
  const int64_t padded = round_up(cout, kBf16Lanes), size = even * round_up(cout, kPanel);
  uint16_t* in = workspace<uint16_t, 0>(rows * even);
  parallel_ranges(rows, rows * even, [&](int64_t begin, int64_t end) {
    to_bf16(data<float>(feats) + begin * cin, end - begin, cin, even, in + begin * even);
  });
  static_assert(kPanel == 2 * kBf16Lanes);
  const auto add = [&](int64_t k, float* sums, const int32_t* in_rows, const int32_t* out_rows, int64_t count,
                       int32_t begin) {
    for (int64_t first = 0; first < padded; first += kPanel)
      conv_bf16(in, even, sums + first, padded, panels + k * size + first * even, first + kPanel <= padded ? 2 : 1, in_rows,
                out_rows, count, begin);
  };
  return summed<float>(feats, map, num_out, cin, cout, padded, epilogue, add);
}

// Offsets in `shares` lists of nearly equal numbers of pairs: the longest first, each to the shortest list.
std::vector<std::vector<int64_t>> share_offsets(const Map& map, int64_t shares) {
  std::vector<int64_t> order(map.volume), load(shares, 0);
  std::vector<std::vector<int64_t>> lists(shares);
  std::iota(order.begin(), order.end(), 0);
  const auto pairs = [&](int64_t k) { return map.s[k + 1] - map.s[k]; };
  std::stable_sort(order.begin(), order.end(), [&](int64_t a, int64_t b) { return pairs(a) > pairs(b); });
  for (const int64_t k : order) {
    const int64_t least = std::min_element(load.begin(), load.end()) - load.begin();
    lists[least].push_back(k);
    load[least] += pairs(k) + 1;
  }
  for (auto& list : lists) std::sort(list.begin(), list.end());
  return lists;
}

template <class T>
Tensor weight_grad_t(const Tensor& feats_, const Tensor& grad_, const Map& map) {
  const Tensor feats = dense<T>(feats_, "feats"), grad = dense<T>(grad_, "grad");
  const Micro<T>& kernel = micro<T>();
  const int64_t rows = grad.size(0), cin = feats.size(1), cout = grad.size(1);
  const int64_t lanes = kernel.lanes, padded = round_up(cout, lanes);
  const T *in = data<T>(feats), *g = data<T>(grad);
  Tensor out = make<T>(feats, {map.volume, cin, cout});
  T* result = mutable_data<T>(out);
  if (cin == 0 || cout == 0) return out;

  // An item is a share of the offsets and a share of the tiles of input channels; it walks over segments of output rows,
  // whose features stay in the cache while all its offsets read them. Every number of the result is summed by one item
  // in the order of the pairs, so it does not depend on how the work is shared.
  const int64_t tiles = (cin + kernel.outer_rows - 1) / kernel.outer_rows;
  const int64_t wanted = max_threads() > 1 ? 3 * max_threads() : 1;
  const int64_t shares = std::min(map.volume, wanted);
  const int64_t tile_shares = std::min(tiles, (wanted + shares - 1) / shares);
  const std::vector<std::vector<int64_t>> offsets = share_offsets(map, shares);
  const int64_t row_bytes = static_cast<int64_t>(sizeof(T)) * (cin + padded);
  const int64_t segment = std::max<int64_t>(256, 2 * kCacheBytes / row_bytes);
  const int64_t chunk = std::clamp<int64_t>(kChunkBytes / row_bytes, 32, 512);
  // Rows that about one offset has are in no cache, and lie where the processor does not foresee them.
  const bool apart = map.s[map.volume] <= 2 * std::max(feats.size(0), rows);
  parallel_items(shares * tile_shares, map.s[map.volume] * cin * cout / 8, [&](int64_t item) {
    const std::vector<int64_t>& own = offsets[item / tile_shares];
    const int64_t share = item % tile_shares;
    const int64_t first_tile = tiles * share / tile_shares, last_tile = tiles * (share + 1) / tile_shares;
    const int64_t first_row = cin * first_tile / tiles, last_row = cin * last_tile / tiles;
    const int64_t size = (last_row - first_row) * padded;
    T* all_sums = workspace<T, 3>(own.size() * size);
    std::fill(all_sums, all_sums + own.size() * size, T(0));
    // Rows of grad that are not whole vectors are copied to rows that are.
    T* copy = padded == cout ? nullptr : workspace<T, 4>(chunk * padded);
    int32_t* numbers = padded == cout ? nullptr : workspace<int32_t, 4>(chunk);
    if (numbers) std::iota(numbers, numbers + chunk, 0);
    if (copy) std::fill(copy, copy + chunk * padded, T(0));
    std::vector<int64_t> at(own.size());
    for (size_t k = 0; k < own.size(); ++k) at[k] = map.s[own[k]];
    for (int64_t last = segment; last < rows + segment; last += segment)
      for (size_t k = 0; k < own.size(); ++k) {
        const int32_t* high = map.out_rows + map.s[own[k] + 1];
        const int64_t end =
            last >= rows ? map.s[own[k] + 1] : std::lower_bound(map.out_rows + at[k], high, last) - map.out_rows;
        T* sums = all_sums + k * size;
        for (int64_t p = at[k]; p < end; p += chunk) {
          const int64_t count = std::min(chunk, end - p);
          for (int64_t q = p; apart && q < p + count; ++q) {
            ask_for(in + map.in_rows[q] * cin + first_row, last_row - first_row);
            ask_for(g + map.out_rows[q] * cout, cout);
          }
          if (copy)
            for (int64_t i = 0; i < count; ++i) std::copy_n(g + map.out_rows[p + i] * cout, cout, copy + i * padded);
          const T* source = copy ? copy : g;
          const int32_t* source_rows = copy ? numbers : map.out_rows + p;
          for (int64_t first = 0; first < padded; first += 2 * lanes)
            for (int64_t tile = first_tile; tile < last_tile; ++tile) {
              const int64_t from = cin * tile / tiles, to = cin * (tile + 1) / tiles;
              kernel.outer(in + from, cin, source + first, padded, sums + (from - first_row) * padded + first, padded,
                           static_cast<int>(to - from), first + 2 * lanes <= padded ? 2 : 1, map.in_rows + p,
                           source_rows, count);
            }
        }
        at[k] = end;
      }
    for (size_t k = 0; k < own.size(); ++k)
      for (int64_t r = first_row; r < last_row; ++r)
        std::copy_n(all_sums + k * size + (r - first_row) * padded, cout, result + (own[k] * cin + r) * cout);
  });
  return out;
}

}  // namespace

Tensor conv(const Tensor& feats, const Tensor& weight, const Tensor& in_rows, const Tensor& out_rows,
            const Tensor& splits, int64_t num_out) {
  const Map map(in_rows, out_rows, splits);
  check_conv(feats, weight, map.volume);
  return dispatch_real(feats, "conv", [&](auto zero) {
    using T = decltype(zero);
    const int64_t cout = weight.size(2);
    T* panels = workspace<T, 2>(map.volume * feats.size(1) * round_up(cout, kPanel));
    pack(weight, panels);
    return conv_t<T>(feats, panels, cout, map, num_out);
  });
}

Tensor conv_fused(const Tensor& feats, const Tensor& panels_, int64_t channels, const std::optional<Tensor>& bias,
                  const std::optional<Tensor>& residual, const Tensor& in_rows, const Tensor& out_rows,
                  const Tensor& splits, int64_t num_out, bool relu) {
  const Map map(in_rows, out_rows, splits);
  const bool reduced = panels_.scalar_type() == ScalarType::BFloat16;
  check_panels(feats, panels_, channels, map.volume, reduced ? 2 : 1);
  check_fused(feats, num_out, channels, bias, residual);
  return dispatch_real(feats, "conv_fused", [&](auto zero) {
    using T = decltype(zero);
    const Tensor b = bias ? dense<T>(*bias, "bias") : feats, r = residual ? dense<T>(*residual, "residual") : feats;
    const Epilogue<T> epilogue{bias ? data<T>(b) : nullptr, residual ? data<T>(r) : nullptr, relu};
    if constexpr (std::is_same_v<T, float>)
      if (reduced) {
        STD_TORCH_CHECK(has_bf16(), "tsp3d: this processor does not multiply bfloat16 numbers; keep the weight in float32");
        const Tensor panels = torch::stable::contiguous(panels_);
        return conv_in_bf16(feats, static_cast<const uint16_t*>(panels.const_data_ptr()), channels, map, num_out, epilogue);
      }
    const Tensor panels = dense<T>(panels_, "panels");
    return conv_t<T>(feats, data<T>(panels), channels, map, num_out, epilogue);
  });
}

Tensor conv_weight_grad(const Tensor& feats, const Tensor& grad, const Tensor& in_rows, const Tensor& out_rows,
                        const Tensor& splits) {
  check_weight_grad(feats, grad);
  const Map map(in_rows, out_rows, splits);
  return dispatch_real(feats, "conv_weight_grad",
                       [&](auto zero) { return weight_grad_t<decltype(zero)>(feats, grad, map); });
}

}  // namespace tsp3d
