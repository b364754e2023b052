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

template <class T>
AddToGroups<T> add_to_groups() {
  return TSP3D_FOR_ISA(add_to_groups<T>);
}

template AddToGroups<float> add_to_groups<float>();
template AddToGroups<double> add_to_groups<double>();
template LinearRows<float> linear_rows<float>();
template LinearRows<double> linear_rows<double>();

}  // namespace tsp3d
