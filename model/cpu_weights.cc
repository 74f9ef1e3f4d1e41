#include "model/cpu_weights.h"

#include <sys/mman.h>

#include <cstdlib>
#include <string>

namespace ringtide::model {
namespace {

// Where the system gives huge pages, one entry of the translation cache covers this much.
constexpr size_t kHugePage = size_t{2} << 20;
constexpr int64_t kLine = 64;

int64_t packed_bytes(const RawMatrix& m) {
  return (kernels::packed_bytes(m.type, m.n, m.k) + kLine - 1) / kLine * kLine;
}

kernels::ActivationType kernel_activations(ActivationType a) {
  switch (a) {
    case ActivationType::F32:
      return kernels::ActivationType::F32;
    case ActivationType::Int16:
      return kernels::ActivationType::Int16;
    case ActivationType::Int8:
      return kernels::ActivationType::Int8;
  }
  return kernels::ActivationType::F32;
}

std::shared_ptr<std::byte> allocate(const Model& model, size_t bytes) {
  const size_t rounded = (bytes + kHugePage - 1) / kHugePage * kHugePage;
  auto* memory = static_cast<std::byte*>(std::aligned_alloc(kHugePage, rounded));
  if (memory == nullptr) {
    throw ModelError(model.path + ": its weights need " + std::to_string(rounded >> 20) +
                     " MiB, more memory than the system gives; free some, or use a smaller model");
  }
  ::madvise(memory, rounded, MADV_HUGEPAGE);
  return {memory, &std::free};
}

}  // namespace

void set_activations(CpuWeights& weights, ActivationType activations) {
  weights.activations = activations;
  const auto own = kernel_activations(activations);
  for (CpuLayer& l : weights.layers) {
    for (kernels::PackedMatrix* m : {&l.wq, &l.wk, &l.wv, &l.wo, &l.gate, &l.up, &l.down}) {
      m->activations = own;
    }
  }
  weights.output.activations = own;
}

std::shared_ptr<const CpuWeights> pack_weights(const Model& model, ActivationType activations,
                                               kernels::ThreadPool& threads,
                                               const Progress& progress) {
  auto weights = std::make_shared<CpuWeights>();
  weights->layers.resize(model.tensors.layers.size());
  struct Task {
    const RawMatrix* from;
    kernels::PackedMatrix* to;
  };
  std::vector<Task> tasks;
  for (size_t i = 0; i < weights->layers.size(); ++i) {
    const LayerTensors& from = model.tensors.layers[i];
    CpuLayer& to = weights->layers[i];
    tasks.insert(tasks.end(), {{&from.wq, &to.wq},
                               {&from.wk, &to.wk},
                               {&from.wv, &to.wv},
                               {&from.wo, &to.wo},
                               {&from.gate, &to.gate},
                               {&from.up, &to.up},
                               {&from.down, &to.down}});
  }
  tasks.push_back({&model.tensors.output, &weights->output});

  for (const Task& task : tasks) weights->bytes += packed_bytes(*task.from);
  const auto memory = allocate(model, static_cast<size_t>(weights->bytes));
  std::byte* at = memory.get();
  for (const auto& [from, to] : tasks) {
    *to = kernels::pack(from->type, from->rows, from->n, from->k, from->order, at, threads);
    at += packed_bytes(*from);
    if (progress) {
      progress(static_cast<double>(at - memory.get()) / static_cast<double>(weights->bytes));
    }
  }
  weights->memory = memory;
  set_activations(*weights, activations);
  model.forget_pages();
  return weights;
}

}  // namespace ringtide::model
