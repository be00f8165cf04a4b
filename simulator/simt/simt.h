// SPDX-License-Identifier: MIT OR Apache-2.0
// The CUDA kernel dialect on the host. A kernel source includes this instead of inline PTX when
// KILN_SIMT is defined.
//
// Everything a kernel can name is in these headers; everything that needs the state of a running
// block is only declared here and lives in ../runtime, which is never instrumented.
#pragma once
#include "types.h"
#include "thread.h"
#include "bits.h"
#include "math_functions.h"
#include "numeric.h"
#include "warp.h"
#include "atomics.h"
#include "counters.h"
#include "shared.h"
#include "async_copy.h"
#include "mma.h"
#include "global_memory.h"
#include "export.h"
