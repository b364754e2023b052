#include <algorithm>
#include <cmath>

#include "../common/parallel.h"
#include "checks.h"
#include "micro.h"

namespace tsp3d {
namespace {

constexpr int64_t kBlock = 64;  // the least queries of an item of work, which packs the keys and values of a head once

// (rows, heads, channels) in any strides.
template <class T>
struct View {
  const T* start;
  int64_t row, head, channel;

  explicit View(const Tensor& t) : start(data<T>(t)), row(t.stride(0)), head(t.stride(1)), channel(t.stride(2)) {}
  void copy(int64_t r, int64_t h, int64_t count, T* target, int64_t step = 1, T scale = 1) const {
    const T* source = start + r * row + h * head;
    for (int64_t c = 0; c < count; ++c) target[c * step] = scale * source[c * channel];
  }
};

// Attention with queries, keys and values that are made where they are needed. The functions write one row of a head:
// query(r, h, numbers), key(j, h, numbers, step between them), value(j, h, numbers), and store(r, h, attended numbers).
template <class T, class Query, class Key, class Value, class Store>
void attend(const Tensor& q_splits, const Tensor& k_splits, int64_t q_rows, int64_t k_rows, int64_t heads,
            int64_t channels, int64_t width, const Query& query, const Key& key, const Value& value, const Store& store) {
  const AttentionMicro<T>& kernel = attention_micro<T>();
  const int64_t lanes = kernel.lanes, vectors = (width + lanes - 1) / lanes, padded_width = vectors * lanes;
  const int64_t sequences = q_splits.size(0) - 1, *qs = data<int64_t>(q_splits), *ks = data<int64_t>(k_splits);
  STD_TORCH_CHECK(qs[0] == 0 && qs[sequences] == q_rows && ks[0] == 0 && ks[sequences] == k_rows,
                  "tsp3d: the splits of sequences must begin at 0 and end at the number of rows");
  struct Item {
    int64_t sequence, head, first, last;
  };
  std::vector<Item> items;
  // Where heads and sequences are enough for all threads, an item is a whole sequence.
  const int64_t block = heads * sequences < 2 * max_threads() ? kBlock : std::max(q_rows, kBlock);
  int64_t work = 0, longest = 0;
  for (int64_t s = 0; s < sequences; ++s) {
    STD_TORCH_CHECK(qs[s] <= qs[s + 1] && ks[s] <= ks[s + 1], "tsp3d: the splits of sequences must ascend");
    longest = std::max(longest, ks[s + 1] - ks[s]);
    work += (qs[s + 1] - qs[s]) * (ks[s + 1] - ks[s]) * heads * (channels + width) / 8;
    for (int64_t h = 0; h < heads; ++h)
      for (int64_t first = qs[s]; first < qs[s + 1]; first += block)
        items.push_back({s, h, first, std::min(first + block, qs[s + 1])});
  }
  const int64_t room = (longest + lanes - 1) / lanes * lanes;
  parallel_items(static_cast<int64_t>(items.size()), work, [&](int64_t number) {
    const Item item = items[number];
    const int64_t begin = ks[item.sequence], count = ks[item.sequence + 1] - begin;
    const int64_t padded = (count + lanes - 1) / lanes * lanes;
    T* keys = workspace<T, 5>(channels * room + room * padded_width + kernel.rows * (room + channels + padded_width));
    T* values = keys + channels * room;
    T* sums = values + room * padded_width;
    T* queries = sums + kernel.rows * room;
    T* tile = queries + kernel.rows * channels;
    for (int64_t j = 0; j < count; ++j) {
      key(begin + j, item.head, keys + j, padded);
      T* row = values + j * padded_width;
      value(begin + j, item.head, row);
      std::fill(row + width, row + padded_width, T(0));
    }
    for (int64_t c = 0; c < channels; ++c) std::fill(keys + c * padded + count, keys + (c + 1) * padded, T(0));
    for (int64_t first = item.first; first < item.last; first += kernel.rows) {
      const int64_t rows = std::min<int64_t>(kernel.rows, item.last - first);
      for (int64_t r = 0; r < rows; ++r) query(first + r, item.head, queries + r * channels);
      if (count)
        kernel.tile(queries, channels, static_cast<int>(rows), keys, channels, count, padded, values,
                    static_cast<int>(vectors), sums, tile);
      else
        std::fill(tile, tile + rows * padded_width, T(0));
      for (int64_t r = 0; r < rows; ++r) store(first + r, item.head, tile + r * padded_width);
    }
  });
}

template <class T>
Tensor attention_t(const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& q_splits, const Tensor& k_splits,
                   T scale) {
  const int64_t heads = q.size(1), channels = q.size(2), width = v.size(2);
  Tensor out = make<T>(q, {q.size(0), heads, width});
  T* result = mutable_data<T>(out);
  const View<T> queries(q), keys(k), values(v);
  attend<T>(
      q_splits, k_splits, q.size(0), k.size(0), heads, channels, width,
      [&](int64_t r, int64_t h, T* row) { queries.copy(r, h, channels, row, 1, scale); },
      [&](int64_t j, int64_t h, T* row, int64_t step) { keys.copy(j, h, channels, row, step); },
      [&](int64_t j, int64_t h, T* row) { values.copy(j, h, width, row); },
      [&](int64_t r, int64_t h, const T* row) { std::copy_n(row, width, result + (r * heads + h) * width); });
  return out;
}

template <class T>
Tensor spatial_attention_t(const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& ask, const Tensor& xyz_,
                           const Tensor& splits) {
  const Tensor xyz = dense<T>(xyz_, "xyz");
  const int64_t heads = q.size(1), channels = q.size(2), width = v.size(2), all = width + kSpatialChannels;
  Tensor out = make<T>(q, {q.size(0), heads, all});
  T* result = mutable_data<T>(out);
  const View<T> queries(q), keys(k), values(v), asked(ask);
  const T* places = data<T>(xyz);
  const T scale = T(1) / std::sqrt(static_cast<T>(channels));
  const auto moments = [&](int64_t j, T* row, int64_t step) {
    for (int64_t a = 0; a < 3; ++a) {
      const T at = places[3 * j + a];
      row[a * step] = at;
      row[(3 + a) * step] = at * at;
    }
  };
  attend<T>(
      splits, splits, q.size(0), k.size(0), heads, channels + 6, width + 6,
      [&](int64_t r, int64_t h, T* row) {
        queries.copy(r, h, channels, row, 1, scale);
        T want[6];
        asked.copy(r, h, 6, want);
        for (int64_t a = 0; a < 3; ++a) {
          const T reach = softplus(want[3 + a]);
          row[channels + a] = want[a] + 2 * reach * places[3 * r + a];
          row[channels + 3 + a] = -reach;
        }
      },
      [&](int64_t j, int64_t h, T* row, int64_t step) {
        keys.copy(j, h, channels, row, step);
        moments(j, row + channels * step, step);
      },
      [&](int64_t j, int64_t h, T* row) {
        values.copy(j, h, width, row);
        moments(j, row + width, 1);
      },
      [&](int64_t r, int64_t h, const T* row) {
        T* target = result + (r * heads + h) * all;
        std::copy_n(row, width, target);
        const T* mean = row + width;
        T square = 0;
        for (int64_t a = 0; a < 3; ++a) {
          const T offset = mean[a] - places[3 * r + a];
          target[width + a] = offset;
          square += offset * offset;
          target[width + 4 + a] = std::max(mean[3 + a] - mean[a] * mean[a], T(0));
        }
        target[width + 3] = std::sqrt(square);
      });
  return out;
}

}  // namespace
}  // namespace tsp3d

#include "entry.h"
