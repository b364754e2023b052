#include "op.h"

#include <algorithm>
#include <numeric>

#include "../common/parallel.h"
#include "micro.h"

namespace tsp3d {
namespace {

constexpr int64_t kCacheBytes = 256 * 1024;  // what a block of output rows may take of the L2 cache

int64_t round_up(int64_t v, int64_t to) { return (v + to - 1) / to * to; }

struct Map {
  Tensor in, out, splits;
  const int32_t *in_rows, *out_rows;
  const int64_t* s;
  int64_t volume;

  Map(const Tensor& in_, const Tensor& out_, const Tensor& splits_)
      : in(dense<int32_t>(in_, "in_rows")),
        out(dense<int32_t>(out_, "out_rows")),
        splits(dense<int64_t>(splits_, "splits")),
        in_rows(data<int32_t>(in)),
        out_rows(data<int32_t>(out)),
        s(data<int64_t>(splits)),
        volume(splits.size(0) - 1) {
    STD_TORCH_CHECK(in.size(0) == out.size(0), "tsp3d: in_rows and out_rows differ in length");
  }
};

// weight (K, cin, cout) as (K, panel, cin, panel width): a panel is two vectors wide, the last one may be one. The
// numbers past cout are zero.
template <class T>
void pack(const T* weight, const int64_t strides[3], int64_t volume, int64_t cin, int64_t cout, int64_t padded,
          int64_t lanes, T* packed) {
  parallel_items(volume, volume * cin * padded, [&](int64_t k) {
    T* target = packed + k * cin * padded;
    for (int64_t first = 0; first < padded;) {
      const int64_t width = std::min(2 * lanes, padded - first);
      for (int64_t c = 0; c < cin; ++c) {
        const T* source = weight + k * strides[0] + c * strides[1];
        for (int64_t j = 0; j < width; ++j) *target++ = first + j < cout ? source[(first + j) * strides[2]] : T(0);
      }
      first += width;
    }
  });
}

template <class T>
Tensor conv_t(const Tensor& feats_, const Tensor& weight, const Map& map, int64_t num_out) {
  const Tensor feats = dense<T>(feats_, "feats");
  const Micro<T>& kernel = micro<T>();
  const int64_t cin = feats.size(1), cout = weight.size(2), lanes = kernel.lanes, padded = round_up(cout, lanes);
  Tensor out = make<T>(feats, {num_out, cout});
  if (num_out == 0 || cout == 0) return out;
  T* result = mutable_data<T>(out);
  const T* in = data<T>(feats);
  const int64_t strides[3] = {weight.stride(0), weight.stride(1), weight.stride(2)};
  T* packed = workspace<T, 2>(map.volume * cin * padded);
  pack(data<T>(weight), strides, map.volume, cin, cout, padded, lanes, packed);

  // A block's rows stay in the cache while all offsets add to them.
  const int64_t fitting = kCacheBytes / static_cast<int64_t>(sizeof(T) * padded);
  const int64_t shared = round_up((num_out + 4 * max_threads() - 1) / (4 * max_threads()), 64);
  const int64_t rows = std::max<int64_t>(64, std::min({fitting, shared, int64_t{1024}}));
  const int64_t blocks = (num_out + rows - 1) / rows;
  parallel_items(blocks, map.s[map.volume] * cin * cout / 8, [&](int64_t block) {
    const int64_t begin = block * rows, end = std::min(begin + rows, num_out);
    T* sums = padded == cout ? result + begin * cout : workspace<T, 3>(rows * padded);
    std::fill(sums, sums + (end - begin) * padded, T(0));
    for (int64_t k = 0; k < map.volume; ++k) {
      const int32_t *low = map.out_rows + map.s[k], *high = map.out_rows + map.s[k + 1];
      const int32_t* from = std::lower_bound(low, high, static_cast<int32_t>(begin));
      const int32_t* to = std::lower_bound(from, high, static_cast<int32_t>(end));
      if (from == to) continue;
      const T* w = packed + k * cin * padded;
      for (int64_t first = 0; first < padded; first += 2 * lanes) {
        const int vectors = first + 2 * lanes <= padded ? 2 : 1;
        kernel.conv(in, cin, sums + first, padded, w, cin, vectors, map.in_rows + (from - map.out_rows), from, to - from,
                    static_cast<int32_t>(begin));
        w += vectors * lanes * cin;
      }
    }
    if (padded != cout)
      for (int64_t r = begin; r < end; ++r)
        std::copy_n(sums + (r - begin) * padded, cout, result + r * cout);
  });
  return out;
}

template <class T>
Tensor weight_grad_t(const Tensor& feats_, const Tensor& grad_, const Map& map) {
  const Tensor feats = dense<T>(feats_, "feats"), grad = dense<T>(grad_, "grad");
  const Micro<T>& kernel = micro<T>();
  const int64_t cin = feats.size(1), cout = grad.size(1), lanes = kernel.lanes, padded = round_up(cout, lanes);
  const T *in = data<T>(feats), *g = data<T>(grad);
  Tensor out = make<T>(feats, {map.volume, cin, cout});
  T* result = mutable_data<T>(out);
  if (cin == 0 || cout == 0) return out;

  // Tiles of input channels of nearly equal height; an item is one offset and some of its tiles. How the work is cut
  // depends on shapes alone, so that sums come out the same whatever the number of threads.
  const int64_t tiles = (cin + kernel.outer_rows - 1) / kernel.outer_rows;
  const int64_t groups = std::min<int64_t>(tiles, std::max<int64_t>(1, 32 / map.volume));
  const int64_t chunk = std::clamp<int64_t>(48 * 1024 / static_cast<int64_t>(sizeof(T) * (cin + padded)), 32, 512);
  std::vector<int64_t> order(map.volume * groups);
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](int64_t a, int64_t b) {
    const int64_t ka = a / groups, kb = b / groups;
    return map.s[ka + 1] - map.s[ka] > map.s[kb + 1] - map.s[kb];
  });
  parallel_items(order.size(), map.s[map.volume] * cin * cout / 8, [&](int64_t place) {
    const int64_t k = order[place] / groups, group = order[place] % groups;
    const int64_t first_tile = tiles * group / groups, last_tile = tiles * (group + 1) / groups;
    const int64_t first_row = cin * first_tile / tiles, last_row = cin * last_tile / tiles;
    T* sums = workspace<T, 3>((last_row - first_row) * padded);
    std::fill(sums, sums + (last_row - first_row) * padded, T(0));
    T* copy = padded == cout ? nullptr : workspace<T, 4>(chunk * padded);
    int32_t* numbers = padded == cout ? nullptr : workspace<int32_t, 4>(chunk);
    if (numbers) std::iota(numbers, numbers + chunk, 0);
    if (copy) std::fill(copy, copy + chunk * padded, T(0));
    for (int64_t p = map.s[k]; p < map.s[k + 1]; p += chunk) {
      const int64_t count = std::min(chunk, map.s[k + 1] - p);
      if (copy)
        for (int64_t i = 0; i < count; ++i) std::copy_n(g + map.out_rows[p + i] * cout, cout, copy + i * padded);
      const T* rows = copy ? copy : g;
      const int32_t* row_numbers = copy ? numbers : map.out_rows + p;
      for (int64_t tile = first_tile; tile < last_tile; ++tile) {
        const int64_t begin = cin * tile / tiles, end = cin * (tile + 1) / tiles;
        for (int64_t first = 0; first < padded; first += 2 * lanes)
          kernel.outer(in + begin, cin, rows + first, padded, sums + (begin - first_row) * padded + first, padded,
                       static_cast<int>(end - begin), first + 2 * lanes <= padded ? 2 : 1, map.in_rows + p, row_numbers,
                       count);
      }
    }
    for (int64_t r = first_row; r < last_row; ++r)
      std::copy_n(sums + (r - first_row) * padded, cout, result + (k * cin + r) * cout);
  });
  return out;
}

}  // namespace

Tensor conv(const Tensor& feats, const Tensor& weight, const Tensor& in_rows, const Tensor& out_rows,
            const Tensor& splits, int64_t num_out) {
  STD_TORCH_CHECK(feats.dim() == 2 && weight.dim() == 3, "tsp3d: conv takes feats (N, Cin) and weight (K, Cin, Cout)");
  STD_TORCH_CHECK(feats.size(1) == weight.size(1), "tsp3d: feats have ", feats.size(1), " channels, weight takes ",
                  weight.size(1));
  STD_TORCH_CHECK(feats.scalar_type() == weight.scalar_type(), "tsp3d: feats and weight differ in dtype");
  const Map map(in_rows, out_rows, splits);
  STD_TORCH_CHECK(map.volume == weight.size(0), "tsp3d: the kernel map has ", map.volume, " offsets, weight ",
                  weight.size(0));
  return dispatch_real(feats, "conv", [&](auto zero) { return conv_t<decltype(zero)>(feats, weight, map, num_out); });
}

Tensor conv_weight_grad(const Tensor& feats, const Tensor& grad, const Tensor& in_rows, const Tensor& out_rows,
                        const Tensor& splits) {
  STD_TORCH_CHECK(feats.dim() == 2 && grad.dim() == 2, "tsp3d: conv_weight_grad takes feats (N, Cin), grad (M, Cout)");
  STD_TORCH_CHECK(feats.scalar_type() == grad.scalar_type(), "tsp3d: feats and grad differ in dtype");
  const Map map(in_rows, out_rows, splits);
  return dispatch_real(feats, "conv_weight_grad",
                       [&](auto zero) { return weight_grad_t<decltype(zero)>(feats, grad, map); });
}

}  // namespace tsp3d
