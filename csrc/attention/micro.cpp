#include "micro.h"

#include <cmath>
#include <cstring>
#include <limits>

#include "../common/isa.h"

namespace tsp3d {

#define TSP3D_ISA_SOURCE "../attention/micro.inc"
#include "../common/each_isa.inc"

template <class T>
const AttentionMicro<T>& attention_micro() {
  return TSP3D_FOR_ISA(attention_table<T>);
}

template const AttentionMicro<float>& attention_micro<float>();
template const AttentionMicro<double>& attention_micro<double>();

}  // namespace tsp3d
