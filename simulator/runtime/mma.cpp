// SPDX-License-Identifier: MIT OR Apache-2.0
// ldmatrix and mma.sync over the lanes of a warp; layouts in ../simt/mma.h.
#include "../simt/mma.h"
#include "../simt/numeric.h"
#include "block.h"
#include "memory.h"

namespace simt {

static const char* checked_row(void** lanes, int lane) {
  const auto* arguments = static_cast<LdmatrixArguments*>(lanes[lane]);
  const auto* row = static_cast<const char*>(arguments->row);
  const Site site = arguments->site;
  if (reinterpret_cast<uintptr_t>(row) & 15) {
    fail(FailureKind::Misaligned, 0,
         "ldmatrix (%s:%d): the row address of lane %d is not 16-byte aligned", site.file,
         site.line, lane);
  }
  if (!in_shared(row, 16)) {
    fail(FailureKind::IllegalAddress, 0,
         "ldmatrix (%s:%d): the row address of lane %d is not in shared memory", site.file,
         site.line, lane);
  }
  note_shared(row, 16, Access::Read, block.threads[this_thread()->warp * 32 + lane], site);
  return row;
}

void run_ldmatrix(void** lanes, unsigned mask) {
  if (mask != ~0u) fail(FailureKind::LaunchFailed, 0, "ldmatrix needs all 32 lanes of a warp");
  const auto* any = static_cast<LdmatrixArguments*>(lanes[0]);
  const int matrices = any->matrices;
  const Layout layout = any->layout;
  for (int j = 0; j < matrices; ++j) {
    uint16_t matrix[8][8];
    for (int r = 0; r < 8; ++r) std::memcpy(matrix[r], checked_row(lanes, j * 8 + r), 16);
    for (int lane = 0; lane < 32; ++lane) {
      const int g = lane / 4, t = lane % 4 * 2;
      const unsigned low = layout == Layout::Plain ? matrix[g][t] : matrix[t][g];
      const unsigned high = layout == Layout::Plain ? matrix[g][t + 1] : matrix[t + 1][g];
      static_cast<LdmatrixArguments*>(lanes[lane])->registers[j] = low | high << 16;
    }
  }
}

// Eight columns at once, so that the host's compiler uses its vector unit.
typedef float Row __attribute__((vector_size(32)));

template <int Depth>
struct Tile {
  float a[16][Depth];
  Row b[Depth], d[16];

  void multiply() {
    for (int m = 0; m < 16; ++m)
      for (int k = 0; k < Depth; ++k) d[m] += a[m][k] * b[k];
  }
};

template <int Depth>
static void load_accumulators(Tile<Depth>& tile, void** lanes) {
  for (int lane = 0; lane < 32; ++lane) {
    const float* d = static_cast<MmaArguments*>(lanes[lane])->d;
    for (int e = 0; e < 4; ++e) tile.d[lane / 4 + e / 2 * 8][lane % 4 * 2 + e % 2] = d[e];
  }
}
template <int Depth>
static void store_accumulators(const Tile<Depth>& tile, void** lanes) {
  for (int lane = 0; lane < 32; ++lane) {
    float* d = static_cast<MmaArguments*>(lanes[lane])->d;
    for (int e = 0; e < 4; ++e) d[e] = tile.d[lane / 4 + e / 2 * 8][lane % 4 * 2 + e % 2];
  }
}

template <float (*Convert)(unsigned short)>
static void run_mma_16bit(void** lanes, unsigned mask) {
  if (mask != ~0u) fail(FailureKind::LaunchFailed, 0, "mma needs all 32 lanes of a warp");
  Tile<16> tile;
  load_accumulators(tile, lanes);
  for (int lane = 0; lane < 32; ++lane) {
    const auto* own = static_cast<MmaArguments*>(lanes[lane]);
    const int g = lane / 4, t = lane % 4 * 2;
    for (int half = 0; half < 2; ++half) {
      const auto value = [&](unsigned bits) {
        return Convert(static_cast<unsigned short>(bits >> (16 * half)));
      };
      tile.a[g][t + half] = value(own->a[0]);
      tile.a[g + 8][t + half] = value(own->a[1]);
      tile.a[g][t + 8 + half] = value(own->a[2]);
      tile.a[g + 8][t + 8 + half] = value(own->a[3]);
      tile.b[t + half][g] = value(own->b0);
      tile.b[t + 8 + half][g] = value(own->b1);
    }
  }
  tile.multiply();
  store_accumulators(tile, lanes);
}
void run_mma_bf16(void** lanes, unsigned mask) { run_mma_16bit<f32_from_bf16>(lanes, mask); }
void run_mma_f16(void** lanes, unsigned mask) { run_mma_16bit<f32_from_f16>(lanes, mask); }

void run_mma_tf32(void** lanes, unsigned mask) {
  if (mask != ~0u) fail(FailureKind::LaunchFailed, 0, "mma needs all 32 lanes of a warp");
  // The hardware ignores the 13 bits below tf32's mantissa.
  const auto value = [](unsigned bits) { return __uint_as_float(bits & 0xffffe000u); };
  Tile<8> tile;
  load_accumulators(tile, lanes);
  for (int lane = 0; lane < 32; ++lane) {
    const auto* own = static_cast<MmaArguments*>(lanes[lane]);
    const int g = lane / 4, t = lane % 4;
    tile.a[g][t] = value(own->a[0]);
    tile.a[g + 8][t] = value(own->a[1]);
    tile.a[g][t + 4] = value(own->a[2]);
    tile.a[g + 8][t + 4] = value(own->a[3]);
    tile.b[t][g] = value(own->b0);
    tile.b[t + 4][g] = value(own->b1);
  }
  tile.multiply();
  store_accumulators(tile, lanes);
}

}  // namespace simt
