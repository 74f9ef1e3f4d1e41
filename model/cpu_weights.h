// A model's matrices as the CPU's loops want them. Immutable; shared by the engines of one model,
// one after another or at once.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "kernels/matmul.h"
#include "kernels/threads.h"
#include "model/engine.h"
#include "model/model.h"

namespace ringtide::model {

// Names and shapes: tensors.h.
struct CpuLayer {
  kernels::PackedMatrix wq, wk, wv, wo, gate, up, down;
};

struct CpuWeights {
  std::vector<CpuLayer> layers;
  kernels::PackedMatrix output;
  ActivationType activations = ActivationType::F32;  // what they are multiplied by
  int64_t bytes = 0;
  std::shared_ptr<const void> memory;  // owns all of it
};

// Packs every matrix into one allocation, and then lets the system take back the memory of the
// file's pages. Throws ModelError where there is not enough memory.
std::shared_ptr<const CpuWeights> pack_weights(const Model& model, ActivationType activations,
                                               kernels::ThreadPool& threads,
                                               const Progress& progress = {});

// Multiplies all of them by another kind of activations from now on: the packed bytes serve each.
void set_activations(CpuWeights& weights, ActivationType activations);

}  // namespace ringtide::model
