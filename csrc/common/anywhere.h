// Functions that the CPU and the device share.
#pragma once

#ifdef __CUDACC__
#define TSP3D_ANYWHERE __host__ __device__ inline
#else
#define TSP3D_ANYWHERE inline
#endif
