// Sets of keys as a bit for each cell of their packing: where there are not too many cells for that, it is faster to ask than
// sorted keys.
#pragma once

#include "keys.h"

namespace tsp3d {

// Bits that are set. The compiler may not use the instruction, which came after x86-64, and would call a function.
inline int64_t bits_in(uint64_t word) {
#if defined(__x86_64__) && defined(__GNUC__)
  static const bool known = __builtin_cpu_supports("popcnt");
  if (known) {
    uint64_t count;
    __asm__("popcnt %1, %0" : "=r"(count) : "r"(word) : "cc");
    return static_cast<int64_t>(count);
  }
#endif
  return __builtin_popcountll(word);
}

// The places of keys among the different ones.
class Places {
 public:
  // Of keys in [0, cells).
  Places(const int64_t* keys, int64_t count, int64_t cells) {
    const int64_t words = cells / 64 + 1;
    bits_ = workspace<uint64_t, 2>(words + 1);
    before_ = workspace<int32_t, 2>(words);
    std::fill(bits_, bits_ + words + 1, uint64_t(0));
    for (int64_t i = 0; i < count; ++i) bits_[keys[i] >> 6] |= uint64_t(1) << (keys[i] & 63);
    int32_t sum = 0;
    for (int64_t w = 0; w < words; ++w) {
      before_[w] = sum;
      sum += static_cast<int32_t>(bits_in(bits_[w]));
    }
    size_ = sum;
  }
  int64_t size() const { return size_; }
  // How many different keys are smaller: the place of one that is there.
  int64_t operator()(int64_t key) const {
    return before_[key >> 6] + bits_in(bits_[key >> 6] & ((uint64_t(1) << (key & 63)) - 1));
  }
  // A bit for the key and each of those that follow it, 64 in all.
  uint64_t from(int64_t key) const {
    const uint64_t* word = bits_ + (key >> 6);
    const int shift = key & 63;
    return shift ? word[0] >> shift | word[1] << (64 - shift) : word[0];
  }

 private:
  uint64_t* bits_;
  int32_t* before_;  // cells that are taken before each word
  int64_t size_ = 0;
};

}  // namespace tsp3d
