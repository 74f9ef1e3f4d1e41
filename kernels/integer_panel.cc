#include "kernels/integer_tile.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/integer_panel.cc"
#include <hwy/foreach_target.h>
//
#include "kernels/integer_panel_inl.h"

HWY_BEFORE_NAMESPACE();
namespace ringtide::kernels::HWY_NAMESPACE {

void few_rows(TensorType type, const IntegerTile& t, int64_t rows, const Panels& panels) {
#if HWY_TARGET == HWY_AVX3
  if (t.x.high && has_vnni()) {
    IntegerTile one = t;
    for (int p = 0; p < panels.count; ++p, one.sums += rows * kPanel) {
      vnni_panel(type, one, rows, panels.first + p * panels.bytes);
    }
    return;
  }
#endif
  switch (type) {
    case TensorType::F32:
    case TensorType::F16:
    case TensorType::BF16:
      return;
    case TensorType::Q8_0:
      return panels_of<TensorType::Q8_0>(t, rows, panels);
    case TensorType::Q4_0:
      return panels_of<TensorType::Q4_0>(t, rows, panels);
    case TensorType::Q4_1:
      return panels_of<TensorType::Q4_1>(t, rows, panels);
    case TensorType::Q5_0:
      return panels_of<TensorType::Q5_0>(t, rows, panels);
    case TensorType::Q5_1:
      return panels_of<TensorType::Q5_1>(t, rows, panels);
    case TensorType::Q2_K:
      return panels_of<TensorType::Q2_K>(t, rows, panels);
    case TensorType::Q3_K:
      return panels_of<TensorType::Q3_K>(t, rows, panels);
    case TensorType::Q4_K:
      return panels_of<TensorType::Q4_K>(t, rows, panels);
    case TensorType::Q5_K:
      return panels_of<TensorType::Q5_K>(t, rows, panels);
    case TensorType::Q6_K:
      return panels_of<TensorType::Q6_K>(t, rows, panels);
    case TensorType::IQ4_NL:
      return panels_of<TensorType::IQ4_NL>(t, rows, panels);
    case TensorType::IQ4_XS:
      return panels_of<TensorType::IQ4_XS>(t, rows, panels);
  }
}

}  // namespace ringtide::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace ringtide::kernels {

HWY_EXPORT(few_rows);

void integer_panels(TensorType type, const IntegerTile& tile, int64_t rows, const Panels& panels) {
  HWY_DYNAMIC_DISPATCH(few_rows)(type, tile, rows, panels);
}

}  // namespace ringtide::kernels
#endif  // HWY_ONCE
