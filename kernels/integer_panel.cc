#include "kernels/integer_tile.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/integer_panel.cc"
#include <hwy/foreach_target.h>
//
#include "kernels/integer_panel_inl.h"

HWY_BEFORE_NAMESPACE();
namespace ringtide::kernels::HWY_NAMESPACE {

void few_rows(TensorType type, const IntegerTile& t, int64_t rows, const std::byte* panel) {
  switch (type) {
    case TensorType::F32:
    case TensorType::F16:
    case TensorType::BF16:
      return;
    case TensorType::Q8_0:
      return panel_of<TensorType::Q8_0>(t, rows, panel);
    case TensorType::Q4_0:
      return panel_of<TensorType::Q4_0>(t, rows, panel);
    case TensorType::Q4_1:
      return panel_of<TensorType::Q4_1>(t, rows, panel);
    case TensorType::Q5_0:
      return panel_of<TensorType::Q5_0>(t, rows, panel);
    case TensorType::Q5_1:
      return panel_of<TensorType::Q5_1>(t, rows, panel);
    case TensorType::Q2_K:
      return panel_of<TensorType::Q2_K>(t, rows, panel);
    case TensorType::Q3_K:
      return panel_of<TensorType::Q3_K>(t, rows, panel);
    case TensorType::Q4_K:
      return panel_of<TensorType::Q4_K>(t, rows, panel);
    case TensorType::Q5_K:
      return panel_of<TensorType::Q5_K>(t, rows, panel);
    case TensorType::Q6_K:
      return panel_of<TensorType::Q6_K>(t, rows, panel);
    case TensorType::IQ4_NL:
      return panel_of<TensorType::IQ4_NL>(t, rows, panel);
    case TensorType::IQ4_XS:
      return panel_of<TensorType::IQ4_XS>(t, rows, panel);
  }
}

}  // namespace ringtide::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace ringtide::kernels {

HWY_EXPORT(few_rows);

void integer_panel(TensorType type, const IntegerTile& tile, int64_t rows, const std::byte* panel) {
  if (tile.x.high) return vnni_panel(type, tile, rows, panel);
  HWY_DYNAMIC_DISPATCH(few_rows)(type, tile, rows, panel);
}

}  // namespace ringtide::kernels
#endif  // HWY_ONCE
