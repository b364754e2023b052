#include "checks.h"

#include <algorithm>
#include <numeric>

#include "../common/prefetch.h"
#include "bf16.h"
#include "micro.h"
#include "parts.h"

namespace tsp3d {
namespace {

constexpr int64_t kChunkBytes = 160 * 1024;  // what the pairs of a run of the weight gradient's tiles may take of L1 and L2

// The panel of one offset's weight (cin, cout), of given strides, that begins with output channel `first`: op.h.
template <class T>
void pack_panel(const T* source, const int64_t* strides, int64_t cin, int64_t cout, int64_t first, T* target) {
  const int64_t real = std::min(kPanel, cout - first);
  source += first * strides[1];
  if (strides[1] == 1) {  // row by row, as it lies in memory
    for (int64_t c = 0; c < cin; ++c, source += strides[0], target += kPanel) {
      std::copy_n(source, real, target);
      std::fill(target + real, target + kPanel, T(0));
    }
    return;
  }
  // Transposed: a few channels at a time, so that a cache line of each row is read once.
  for (int64_t c0 = 0; c0 < cin; c0 += 16, source += 16 * strides[0], target += 16 * kPanel) {
    const int64_t channels = std::min<int64_t>(16, cin - c0);
    for (int64_t j = 0; j < kPanel; ++j) {
      const T* column = source + j * strides[1];
      for (int64_t c = 0; c < channels; ++c) target[c * kPanel + j] = j < real ? column[c * strides[0]] : T(0);
    }
  }
}

// A weight (K, cin, cout) that lies anyhow, panel by panel.
template <class T>
struct Weight {
  explicit Weight(const Tensor& weight)
      : numbers(data<T>(weight)), cin(weight.size(1)), cout(weight.size(2)) {
    for (int i = 0; i < 3; ++i) strides[i] = weight.stride(i);
  }
  void pack(int64_t k, int64_t first, T* target) const {
    pack_panel(numbers + k * strides[0], strides + 1, cin, cout, first, target);
  }
  const T* numbers;
  int64_t cin, cout, strides[3];
};

// What is added to each row of a convolution, and whether negative numbers become zero.
template <class T>
struct Epilogue {
  const T *bias = nullptr, *residual = nullptr;
  bool relu = false;

  // What the sums of a part start from. `padded` numbers a row; those past cout are zero.
  void start(const Part& part, T* sums, int64_t cout, int64_t padded) const {
    const int64_t from = part.from, to = std::min(part.to, cout);
    for (int64_t r = part.begin; r < part.end; ++r, sums += padded) {
      const T* more = residual ? residual + r * cout : bias;
      if (residual && bias)
        for (int64_t c = from; c < to; ++c) sums[c] = more[c] + bias[c];
      else if (more)
        std::copy(more + from, more + to, sums + from);
      else
        std::fill(sums + from, sums + to, T(0));
      std::fill(sums + to, sums + part.to, T(0));
    }
  }
  void finish(const Part& part, T* sums, int64_t padded) const {
    if (!relu) return;
    for (int64_t r = part.begin; r < part.end; ++r, sums += padded)
      for (int64_t c = part.from; c < part.to; ++c) sums[c] = sums[c] < T(0) ? T(0) : sums[c];  // keeps NaN
  }
};

// Whether a weight is far more to read than the features: then parts are a few output channels wide and have many rows, so
// that a panel is read once, or a few times where there are more rows or threads, and not by every block of rows.
bool heavy(const Map& map, int64_t num_in, int64_t cout) {
  return cout > kPanel && map.volume * cout > 4 * num_in;
}

// The result of a convolution whose sums are of its own type: add as in_parts has it.
template <class T, class Add>
Tensor summed(const Tensor& feats, const Map& map, int64_t num_out, int64_t cout, int64_t padded,
              const Epilogue<T>& epilogue, const Add& add) {
  Tensor out = make<T>(feats, {num_out, cout});
  if (num_out == 0 || cout == 0) return out;
  T* result = mutable_data<T>(out);
  const auto start = [&](const Part& part) {
    T* sums = padded == cout ? result + part.begin * cout : workspace<T, 3>((part.end - part.begin) * padded);
    epilogue.start(part, sums, cout, padded);
    return sums;
  };
  const auto finish = [&](const Part& part, T* sums) {
    epilogue.finish(part, sums, padded);
    if (padded != cout)
      for (int64_t r = part.begin; r < part.end; ++r, sums += padded)
        std::copy(sums + part.from, sums + std::min(part.to, cout), result + r * cout + part.from);
  };
  const int64_t width = heavy(map, feats.size(0), cout) ? kPanel : padded;
  in_parts<T>(map, num_out, feats.size(1) * cout, padded, width, start, add, finish);
  return out;
}

// The panels of a packed weight, as op.h has them, `rows` numbers deep.
template <class T>
struct Packed {
  const T* panels;
  int64_t rows, cout;

  const T* operator()(int64_t k, int64_t first) const { return panels + (k * round_up(cout, kPanel) + first) * rows; }
  // Where a panel lies before it is asked for.
  const T* place(int64_t k, int64_t first) const { return (*this)(k, first); }
};

// Panels that are made where they are needed, one at a time.
template <class T>
struct Made {
  Weight<T> weight;

  const T* operator()(int64_t k, int64_t first) const {
    T* target = workspace<T, 2>(weight.cin * kPanel);
    weight.pack(k, first, target);
    return target;
  }
  const T* place(int64_t, int64_t) const { return nullptr; }
};

// panel: Packed or Made.
template <class T, class Panel>
Tensor conv_t(const Tensor& feats_, const Panel& panel, int64_t cout, const Map& map, int64_t num_out,
              const Epilogue<T>& epilogue = {}) {
  const Tensor feats = dense<T>(feats_, "feats");
  const Micro<T>& kernel = micro<T>();
  const int64_t cin = feats.size(1), lanes = kernel.lanes, padded = round_up(cout, lanes);
  const bool far = !heavy(map, feats.size(0), cout);
  const T* in = data<T>(feats);
  const auto add = [&](const Part& part, int64_t k, T* sums, const int32_t* in_rows, const int32_t* out_rows,
                       int64_t count) {
    for (int64_t at = part.from; at < part.to; at += kPanel) {
      const T *w = panel(k, at), *next = far || k + 1 == map.volume ? nullptr : panel.place(k + 1, at);
      const int64_t last = std::min(at + kPanel, part.to);
      for (int64_t first = at; first < last; first += 2 * lanes)
        kernel.conv(in, cin, sums + first, padded, w + first - at, cin, first + 2 * lanes <= last ? 2 : 1, in_rows,
                    out_rows, count, static_cast<int32_t>(part.begin), far && first == 0, first == at ? next : nullptr);
    }
  };
  return summed<T>(feats, map, num_out, cout, padded, epilogue, add);
}

// Features rounded to bfloat16, panels in it, sums in float32.
Tensor conv_in_bf16(const Tensor& feats_, const uint16_t* panels, int64_t cout, const Map& map, int64_t num_out,
                    const Epilogue<float>& epilogue) {
  const Tensor feats = dense<float>(feats_, "feats");
  const int64_t rows = feats.size(0), cin = feats.size(1), even = round_up(cin, 2);
  const int64_t padded = round_up(cout, kBf16Lanes);
  uint16_t* in = workspace<uint16_t, 0>(rows * even);
  parallel_ranges(rows, rows * even, [&](int64_t begin, int64_t end) {
    to_bf16(data<float>(feats) + begin * cin, end - begin, cin, even, in + begin * even);
  });
  static_assert(kPanel == 2 * kBf16Lanes);
  const Packed<uint16_t> panel{panels, even, cout};
  const auto add = [&](const Part& part, int64_t k, float* sums, const int32_t* in_rows, const int32_t* out_rows,
                       int64_t count) {
    for (int64_t first = part.from; first < part.to; first += kPanel)
      conv_bf16(in, even, sums + first, padded, panel(k, first), first + kPanel <= part.to ? 2 : 1, in_rows, out_rows,
                count, static_cast<int32_t>(part.begin));
  };
  return summed<float>(feats, map, num_out, cout, padded, epilogue, add);
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
  if (map.volume == 0 || cin == 0 || cout == 0) return out;

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
    const int64_t channels = last_row - first_row, size = channels * padded;
    const bool direct = padded == cout;
    T* sums_of_all = direct ? nullptr : workspace<T, 3>(own.size() * size);
    const auto sums_of = [&](size_t k) {
      return direct ? result + (own[k] * cin + first_row) * cout : sums_of_all + k * size;
    };
    // Rows of grad that are not whole vectors are copied to rows that are.
    T* copy = direct ? nullptr : workspace<T, 4>(chunk * padded);
    int32_t* numbers = direct ? nullptr : workspace<int32_t, 4>(chunk);
    if (numbers) std::iota(numbers, numbers + chunk, 0);
    if (copy) std::fill(copy, copy + chunk * padded, T(0));
    std::vector<int64_t> at(own.size());
    for (size_t k = 0; k < own.size(); ++k) {
      at[k] = map.s[own[k]];
      if (at[k] == map.s[own[k] + 1]) std::fill_n(sums_of(k), size, T(0));
    }
    for (int64_t last = segment; last < rows + segment; last += segment)
      for (size_t k = 0; k < own.size(); ++k) {
        const int32_t* high = map.out_rows + map.s[own[k] + 1];
        const int64_t end =
            last >= rows ? map.s[own[k] + 1] : std::lower_bound(map.out_rows + at[k], high, last) - map.out_rows;
        T* sums = sums_of(k);
        for (int64_t p = at[k]; p < end; p += chunk) {
          const int64_t count = std::min(chunk, end - p);
          for (int64_t q = p; apart && q < p + count; ++q) {
            ask_for(in + map.in_rows[q] * cin + first_row, channels);
            ask_for(g + map.out_rows[q] * cout, cout);
          }
          if (copy)
            for (int64_t i = 0; i < count; ++i) std::copy_n(g + map.out_rows[p + i] * cout, cout, copy + i * padded);
          const T* source = copy ? copy : g;
          const int32_t* source_rows = copy ? numbers : map.out_rows + p;
          const bool fresh = p == map.s[own[k]];
          for (int64_t first = 0; first < padded; first += 2 * lanes)
            for (int64_t tile = first_tile; tile < last_tile; ++tile) {
              const int64_t from = cin * tile / tiles, to = cin * (tile + 1) / tiles;
              kernel.outer(in + from, cin, source + first, padded, sums + (from - first_row) * padded + first, padded,
                           static_cast<int>(to - from), first + 2 * lanes <= padded ? 2 : 1, map.in_rows + p,
                           source_rows, count, fresh);
            }
        }
        at[k] = end;
      }
    for (size_t k = 0; !direct && k < own.size(); ++k)
      for (int64_t r = 0; r < channels; ++r)
        std::copy_n(sums_of(k) + r * padded, cout, result + (own[k] * cin + first_row + r) * cout);
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
    const Weight<T> own(weight);
    if (heavy(map, feats.size(0), cout)) return conv_t<T>(feats, Made<T>{own}, cout, map, num_out);
    const int64_t cin = feats.size(1), wide = round_up(cout, kPanel);
    T* panels = workspace<T, 2>(map.volume * cin * wide);
    parallel_items(map.volume, map.volume * cin * wide, [&](int64_t k) {
      for (int64_t first = 0; first < wide; first += kPanel) own.pack(k, first, panels + (k * wide + first) * cin);
    });
    return conv_t<T>(feats, Packed<T>{panels, cin, cout}, cout, map, num_out);
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
    return conv_t<T>(feats, Packed<T>{data<T>(panels), feats.size(1), channels}, channels, map, num_out, epilogue);
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
