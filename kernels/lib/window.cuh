// SPDX-License-Identifier: MIT OR Apache-2.0
// Windows that move over images: which elements lie under a place, and which places an element lies under.
#pragma once
#include "divide.cuh"
#include "abi_images.h"

// A sample, and a position within extents: depth, height, width.
struct Position {
  u32 sample;
  int at[3];
};

// The position with this number among the places of all samples, or among the elements of their images.
KILN_DEVICE Position place_of(u32 number, const KilnWindowAxis* window) {
  const Quotient width = divide(number, window[2].places);
  const Quotient height = divide(width.quotient, window[1].places);
  const Quotient depth = divide(height.quotient, window[0].places);
  return Position{depth.quotient,
                  {static_cast<int>(depth.remainder), static_cast<int>(height.remainder), static_cast<int>(width.remainder)}};
}
KILN_DEVICE Position element_of(u32 number, const KilnWindowAxis* window) {
  const Quotient width = divide(number, window[2].image);
  const Quotient height = divide(width.quotient, window[1].image);
  const Quotient depth = divide(height.quotient, window[0].image);
  return Position{depth.quotient,
                  {static_cast<int>(depth.remainder), static_cast<int>(height.remainder), static_cast<int>(width.remainder)}};
}

// Where a tap lies along one extent, as an unsigned number: the padding is beyond every image.
KILN_DEVICE u32 source_along(const KilnWindowAxis& axis, int place, u32 tap) {
  return static_cast<u32>(place) * axis.stride.divisor + tap * axis.dilation - axis.before;
}

// The place whose tap is an element along one extent; beyond all places if there is none.
KILN_DEVICE u32 place_along(const KilnWindowAxis& axis, int element, u32 tap) {
  const int padded = static_cast<int>(static_cast<u32>(element) + axis.before - tap * axis.dilation);
  if (padded < 0) return 0xffffffffu;
  const Quotient place = divide(static_cast<u32>(padded), axis.stride);
  return place.remainder == 0 ? place.quotient : 0xffffffffu;
}

// Calls visit(number within its image) for the elements under a place, in their order.
template <class Visit> KILN_DEVICE void each_element(const KilnWindowAxis* window, const Position& place, Visit visit) {
  const KilnWindowAxis &d = window[0], &h = window[1], &w = window[2];
  for (u32 i = 0; i < d.kernel; ++i) {
    const u32 depth = source_along(d, place.at[0], i);
    if (depth >= d.image.divisor) continue;
    for (u32 j = 0; j < h.kernel; ++j) {
      const u32 height = source_along(h, place.at[1], j);
      if (height >= h.image.divisor) continue;
      const u32 row = (depth * h.image.divisor + height) * w.image.divisor;
      for (u32 k = 0; k < w.kernel; ++k) {
        const u32 width = source_along(w, place.at[2], k);
        if (width < w.image.divisor) visit(row + width);
      }
    }
  }
}

// Calls visit(number within its image, position) for the places that an element lies under, in the order of
// taps.
template <class Visit> KILN_DEVICE void each_place(const KilnWindowAxis* window, const Position& element, Visit visit) {
  const KilnWindowAxis &d = window[0], &h = window[1], &w = window[2];
  for (u32 i = 0; i < d.kernel; ++i) {
    const u32 depth = place_along(d, element.at[0], i);
    if (depth >= d.places.divisor) continue;
    for (u32 j = 0; j < h.kernel; ++j) {
      const u32 height = place_along(h, element.at[1], j);
      if (height >= h.places.divisor) continue;
      const u32 row = (depth * h.places.divisor + height) * w.places.divisor;
      for (u32 k = 0; k < w.kernel; ++k) {
        const u32 width = place_along(w, element.at[2], k);
        if (width < w.places.divisor) {
          visit(row + width, Position{element.sample, {static_cast<int>(depth), static_cast<int>(height), static_cast<int>(width)}});
        }
      }
    }
  }
}

KILN_DEVICE u32 elements_of_image(const KilnWindowAxis* window) {
  return window[0].image.divisor * window[1].image.divisor * window[2].image.divisor;
}
KILN_DEVICE u32 places_of_image(const KilnWindowAxis* window) {
  return window[0].places.divisor * window[1].places.divisor * window[2].places.divisor;
}
