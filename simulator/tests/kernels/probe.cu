#include "simt.h"
extern "C" __global__ void probe_add(float* x, int n) { int i = blockIdx.x*blockDim.x+threadIdx.x; if (i<n) x[i]+=1; }
KILN_EXPORT(probe_add)
