// Products over many rows: by many_rows_sm90.h for large matrices on Hopper, else by cuBLASLt; few
// rows of either by what was measured to be faster and gives the same bits.
#include "kernels/cuda/fastest_product.h"
#include "kernels/cuda/hopper.h"
#include "kernels/cuda/many_rows_sm90.h"

namespace ringtide::kernels::cuda {

struct ManyRows::State {
  const bool hopper = is_hopper();
  LtProducts products;
  FastestProduct fastest{products};

  void usual(const Product& p, cudaStream_t stream) {
    if (hopper && sm90_serves(p.n, p.k)) return many_rows_sm90(p, stream);
    products.run(p, products.usual(p), stream);
  }
};

ManyRows::ManyRows() : state_(std::make_unique<State>()) {}
ManyRows::~ManyRows() = default;

void ManyRows::run(const Product& p, cudaStream_t stream) {
  if (p.m == 0) return;
  const auto usual = [](void* state, const Product& q, cudaStream_t s) {
    static_cast<State*>(state)->usual(q, s);
  };
  const LtProducts::Algorithm* faster =
      p.m <= kMeasuredRows ? state_->fastest.of(p, usual, state_.get(), stream) : nullptr;
  faster ? state_->products.run(p, *faster, stream) : state_->usual(p, stream);
}

void ManyRows::run(const GatedProduct& p, cudaStream_t stream) {
  if (p.m == 0) return;
  if (state_->hopper && sm90_serves(2 * p.n, p.k)) return gated_rows_sm90(p, stream);
  run(Product{.x = p.x, .w = p.w, .m = p.m, .n = 2 * p.n, .k = p.k, .y = p.between}, stream);
  gate_mul(p.between, p.m, p.n, p.gate, p.y, stream);
}

}  // namespace ringtide::kernels::cuda
