// Attention of rows in memory, for the operators that are made of it. micro.inc has the inner loops.
#pragma once

#include <algorithm>
#include <cmath>

#include "../common/map.h"
#include "../common/parallel.h"
#include "../common/round.h"
#include "checks.h"
#include "micro.h"

namespace tsp3d {

constexpr int64_t kBlock = 64;  // the least queries of an item of work, which packs the keys and values of a head once

// (rows, heads, channels) in any strides.
template <class T>
struct View {
  const T* start;
  int64_t row, head, channel;

  View(const T* start, int64_t row, int64_t head, int64_t channel = 1)
      : start(start), row(row), head(head), channel(channel) {}
  explicit View(const Tensor& t) : View(data<T>(t), t.stride(0), t.stride(1), t.stride(2)) {}
  void copy(int64_t r, int64_t h, int64_t count, T* target, int64_t step = 1, T scale = 1) const {
    const T* source = start + r * row + h * head;
    if (step == 1 && channel == 1)
      for (int64_t c = 0; c < count; ++c) target[c] = scale * source[c];
    else
      for (int64_t c = 0; c < count; ++c) target[c * step] = scale * source[c * channel];
  }
};

// Attention with queries, keys and values that are made where they are needed. The functions write one row of a head:
// query(r, h, numbers), key(j, h, numbers, step between them), value(j, h, numbers), and store(r, h, attended numbers).
template <class T, class Query, class Key, class Value, class Store>
void attend(const Tensor& q_splits, const Tensor& k_splits, int64_t q_rows, int64_t k_rows, int64_t heads,
            int64_t channels, int64_t width, const Query& query, const Key& key, const Value& value, const Store& store) {
  const AttentionMicro<T>& kernel = attention_micro<T>();
  const int64_t lanes = kernel.lanes, vectors = ceil_div(width, lanes), padded_width = vectors * lanes;
  const int64_t *qs = borders(q_splits, q_rows, "sequences"), *ks = borders(k_splits, k_rows, "sequences");
  const int64_t sequences = q_splits.size(0) - 1;
  struct Item {
    int64_t sequence, head, first, last;
  };
  std::vector<Item> items;
  // Where heads and sequences are enough for all threads, an item is a whole sequence.
  const int64_t block = heads * sequences < 2 * max_threads() ? kBlock : std::max(q_rows, kBlock);
  int64_t work = 0, longest = 0;
  for (int64_t s = 0; s < sequences; ++s) {
    longest = std::max(longest, ks[s + 1] - ks[s]);
    work += (qs[s + 1] - qs[s]) * (ks[s + 1] - ks[s]) * heads * (channels + width) / 8;
    for (int64_t h = 0; h < heads; ++h)
      for (int64_t first = qs[s]; first < qs[s + 1]; first += block)
        items.push_back({s, h, first, std::min(first + block, qs[s + 1])});
  }
  const int64_t room = round_up(longest, lanes);
  parallel_items(static_cast<int64_t>(items.size()), work, [&](int64_t number) {
    const Item item = items[number];
    const int64_t begin = ks[item.sequence], count = ks[item.sequence + 1] - begin;
    const int64_t padded = round_up(count, lanes);
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

// Attention within sequences; the result is (rows, heads, width).
template <class T>
void attention_rows(const View<T>& q, const View<T>& k, const View<T>& v, const Tensor& q_splits,
                    const Tensor& k_splits, int64_t q_rows, int64_t k_rows, int64_t heads, int64_t channels,
                    int64_t width, T scale, T* result) {
  attend<T>(
      q_splits, k_splits, q_rows, k_rows, heads, channels, width,
      [&](int64_t r, int64_t h, T* row) { q.copy(r, h, channels, row, 1, scale); },
      [&](int64_t j, int64_t h, T* row, int64_t step) { k.copy(j, h, channels, row, step); },
      [&](int64_t j, int64_t h, T* row) { v.copy(j, h, width, row); },
      [&](int64_t r, int64_t h, const T* row) { std::copy_n(row, width, result + (r * heads + h) * width); });
}

// The same of voxels among themselves that knows where they are (op.h); the result is (rows, heads, width + 7).
template <class T>
void spatial_rows(const View<T>& q, const View<T>& k, const View<T>& v, const View<T>& ask, const T* places,
                  const Tensor& splits, int64_t rows, int64_t heads, int64_t channels, int64_t width, T* result) {
  const int64_t all = width + kSpatialChannels;
  const T scale = T(1) / std::sqrt(static_cast<T>(channels));
  const auto moments = [&](int64_t j, T* row, int64_t step) {
    for (int64_t a = 0; a < 3; ++a) {
      const T at = places[3 * j + a];
      row[a * step] = at;
      row[(3 + a) * step] = at * at;
    }
  };
  attend<T>(
      splits, splits, rows, rows, heads, channels + 6, width + 6,
      [&](int64_t r, int64_t h, T* row) {
        q.copy(r, h, channels, row, 1, scale);
        T want[6];
        ask.copy(r, h, 6, want);
        for (int64_t a = 0; a < 3; ++a) {
          const T reach = softplus(want[3 + a]);
          row[channels + a] = want[a] + 2 * reach * places[3 * r + a];
          row[channels + 3 + a] = -reach;
        }
      },
      [&](int64_t j, int64_t h, T* row, int64_t step) {
        k.copy(j, h, channels, row, step);
        moments(j, row + channels * step, step);
      },
      [&](int64_t j, int64_t h, T* row) {
        v.copy(j, h, width, row);
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
}

}  // namespace tsp3d
