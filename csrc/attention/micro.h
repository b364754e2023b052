// The inner loops of attention: one entry per instruction set, filled from micro.inc.
#pragma once

#include <cstdint>

namespace tsp3d {

template <class T>
struct AttentionMicro {
  int lanes;  // numbers in a vector
  int rows;   // queries of a register tile

  // One tile of `rows` queries of one head. q: row r at q + r * q_stride, already scaled; keys: (channels, padded_keys),
  // transposed, the keys past `count` anything finite; values: (count, vectors * lanes); sums: room for
  // rows * padded_keys. out: (rows, vectors * lanes).
  void (*tile)(const T* q, int64_t q_stride, int rows, const T* keys, int64_t channels, int64_t count,
               int64_t padded_keys, const T* values, int vectors, T* sums, T* out);
};

template <class T>
const AttentionMicro<T>& attention_micro();

}  // namespace tsp3d
