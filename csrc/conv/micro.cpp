#include "micro.h"

#include <algorithm>
#include <type_traits>

#include "../common/isa.h"
#include "../common/panel.h"
#include "../common/prefetch.h"
#include "../common/round.h"

namespace tsp3d {

#define TSP3D_ISA_SOURCE "../conv/micro.inc"
#include "../common/each_isa.inc"

template <class T>
const Micro<T>& micro() {
  return TSP3D_FOR_ISA(table<T>);
}

template const Micro<float>& micro<float>();
template const Micro<double>& micro<double>();

}  // namespace tsp3d
