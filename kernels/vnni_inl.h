// What the files with AVX512-VNNI share: four products of bytes and their sum in one instruction.
// Highway's targets do not know these instructions; has_vnni() asks the processor at run time.
#pragma once

#include <immintrin.h>

#include <cstddef>
#include <cstdint>

#include "kernels/panel.h"

// g++ 12's own headers leave a vector undefined on purpose (its bug 105593).
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC diagnostic ignored "-Wuninitialized"
#endif

#define RINGTIDE_VNNI __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")))
#define RINGTIDE_VNNI_INLINE RINGTIDE_VNNI __attribute__((always_inline)) inline

namespace ringtide::kernels {

// acc += products of the unsigned bytes of w with the four signed ones at x, lane by lane. Written
// out because g++ 12 copies the sums around its builtin, which halves the speed of a tile.
RINGTIDE_VNNI_INLINE void add_four(__m512i& acc, __m512i w, const int8_t* x) {
  asm("vpdpbusd %2%{1to16%}, %1, %0"
      : "+v"(acc)
      : "v"(w), "m"(*reinterpret_cast<const int8_t(*)[4]>(x)));
}

}  // namespace ringtide::kernels
