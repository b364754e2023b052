#include <algorithm>

#include "../common/parallel.h"
#include "checks.h"
#include "micro.h"

namespace tsp3d {
namespace {

constexpr int64_t kBlock = 64;  // queries of one item of work, which packs the keys and values of a head once

// (rows, heads, channels) in any strides.
template <class T>
struct View {
  const T* start;
  int64_t row, head, channel;

  explicit View(const Tensor& t) : start(data<T>(t)), row(t.stride(0)), head(t.stride(1)), channel(t.stride(2)) {}
  const T* at(int64_t r, int64_t h) const { return start + r * row + h * head; }
};

template <class T>
Tensor attention_t(const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& q_splits, const Tensor& k_splits,
                   T scale) {
  const AttentionMicro<T>& kernel = attention_micro<T>();
  const int64_t heads = q.size(1), channels = q.size(2), width = v.size(2), sequences = q_splits.size(0) - 1;
  const int64_t lanes = kernel.lanes, vectors = (width + lanes - 1) / lanes, padded_width = vectors * lanes;
  const int64_t *qs = data<int64_t>(q_splits), *ks = data<int64_t>(k_splits);
  STD_TORCH_CHECK(qs[0] == 0 && qs[sequences] == q.size(0) && ks[0] == 0 && ks[sequences] == k.size(0),
                  "tsp3d: q_splits and k_splits must begin at 0 and end at the number of rows");
  struct Item {
    int64_t sequence, head, first, last;
  };
  std::vector<Item> items;
  int64_t work = 0, longest = 0;
  for (int64_t s = 0; s < sequences; ++s) {
    STD_TORCH_CHECK(qs[s] <= qs[s + 1] && ks[s] <= ks[s + 1], "tsp3d: q_splits and k_splits must ascend");
    longest = std::max(longest, ks[s + 1] - ks[s]);
    work += (qs[s + 1] - qs[s]) * (ks[s + 1] - ks[s]) * heads * (channels + width) / 8;
    for (int64_t h = 0; h < heads; ++h)
      for (int64_t first = qs[s]; first < qs[s + 1]; first += kBlock)
        items.push_back({s, h, first, std::min(first + kBlock, qs[s + 1])});
  }
  Tensor out = make<T>(q, {q.size(0), heads, width});
  T* result = mutable_data<T>(out);
  const View<T> queries(q), keys(k), values(v);
  const int64_t room = (longest + lanes - 1) / lanes * lanes;
  parallel_items(static_cast<int64_t>(items.size()), work, [&](int64_t number) {
    const Item item = items[number];
    const int64_t begin = ks[item.sequence], count = ks[item.sequence + 1] - begin;
    const int64_t padded = (count + lanes - 1) / lanes * lanes;
    T* packed_keys = workspace<T, 5>(channels * room + room * padded_width + kernel.rows * (room + channels + padded_width));
    T* packed_values = packed_keys + channels * room;
    T* sums = packed_values + room * padded_width;
    T* scaled = sums + kernel.rows * room;
    T* tile = scaled + kernel.rows * channels;
    for (int64_t j = 0; j < count; ++j) {
      const T* key = keys.at(begin + j, item.head);
      for (int64_t c = 0; c < channels; ++c) packed_keys[c * padded + j] = key[c * keys.channel];
      const T* value = values.at(begin + j, item.head);
      T* row = packed_values + j * padded_width;
      for (int64_t c = 0; c < width; ++c) row[c] = value[c * values.channel];
      std::fill(row + width, row + padded_width, T(0));
    }
    for (int64_t c = 0; c < channels; ++c) std::fill(packed_keys + c * padded + count, packed_keys + (c + 1) * padded, T(0));
    for (int64_t first = item.first; first < item.last; first += kernel.rows) {
      const int64_t rows = std::min<int64_t>(kernel.rows, item.last - first);
      for (int64_t r = 0; r < rows; ++r) {
        const T* query = queries.at(first + r, item.head);
        for (int64_t c = 0; c < channels; ++c) scaled[r * channels + c] = scale * query[c * queries.channel];
      }
      if (count)
        kernel.tile(scaled, channels, static_cast<int>(rows), packed_keys, channels, count, padded, packed_values,
                    static_cast<int>(vectors), sums, tile);
      else
        std::fill(tile, tile + rows * padded_width, T(0));
      for (int64_t r = 0; r < rows; ++r)
        std::copy_n(tile + r * padded_width, width, result + ((first + r) * heads + item.head) * width);
    }
  });
  return out;
}

}  // namespace

Tensor attention(const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& q_splits_, const Tensor& k_splits_,
                 double scale) {
  check_attention(q, k, v, q_splits_, k_splits_);
  const Tensor q_splits = dense<int64_t>(q_splits_, "q_splits"), k_splits = dense<int64_t>(k_splits_, "k_splits");
  return dispatch_real(q, "attention", [&](auto zero) {
    return attention_t<decltype(zero)>(q, k, v, q_splits, k_splits, static_cast<decltype(zero)>(scale));
  });
}

}  // namespace tsp3d
