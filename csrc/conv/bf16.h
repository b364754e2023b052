// The convolution's inner loop on bfloat16 numbers, for processors that multiply them (AVX-512 BF16).
#pragma once

#include <cstdint>

namespace tsp3d {

bool has_bf16();

constexpr int64_t kBf16Lanes = 16;  // float32 numbers in a vector of sums

// numbers (rows, columns) float32 as bfloat16, rounded to the nearest even; each row padded with zeros to `padded`.
void to_bf16(const float* numbers, int64_t rows, int64_t columns, int64_t padded, uint16_t* result);

// As Micro::conv, with in and w in bfloat16: rows of in hold `cin` numbers, an even number; w is (cin / 2, vectors * 16, 2),
// the two channels of a pair side by side, rows 2 * kPanel numbers apart.
void conv_bf16(const uint16_t* in, int64_t cin, float* out, int64_t out_stride, const uint16_t* w, int vectors,
               const int32_t* in_rows, const int32_t* out_rows, int64_t count, int32_t first_out);

}  // namespace tsp3d
