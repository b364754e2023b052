#include <cmath>
#include <cstring>
#include <type_traits>

#include "../common/isa.h"
#include "rows.h"

namespace tsp3d {

#define TSP3D_ISA_SOURCE "../linear/micro.inc"
#include "../common/each_isa.inc"

template <class T>
LinearRows<T> linear_rows() {
  return TSP3D_FOR_ISA(rows_of<T>);
}

template LinearRows<float> linear_rows<float>();
template LinearRows<double> linear_rows<double>();

}  // namespace tsp3d
