// Where a model's weights come from, by DeepSeek-V3's published names ("model.layers.3.mlp.experts.7.up_proj.weight"):
// a seeded generator, or a checkpoint. Matrices are FP8 FN codes with one scale for each 128 x 128 block
// (…weight_scale_inv), as published.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "kernels/model/config.h"
#include "kernels/model/safetensors.h"

namespace faultline::kernels::model {

struct Fp8Matrix {
  int n = 0, k = 0;
  std::vector<std::uint8_t> codes;  // FN, n x k
  std::vector<float> scales;        // ceil(n/128) x ceil(k/128)
};

class WeightSource {
 public:
  virtual ~WeightSource() = default;
  /// Throw BadFile when the tensor is absent or has another shape or type.
  virtual Fp8Matrix matrix(const std::string& name, int n, int k) const = 0;  // without ".weight"
  virtual std::vector<std::uint16_t> bf16(const std::string& name, std::int64_t count) const = 0;
  virtual std::vector<float> f32(const std::string& name, std::int64_t count) const = 0;
};

/// Random weights: a value depends on the seed, the tensor's name and the index alone. Scaled so that activations keep
/// their size through the layers; router biases small; norms near one.
std::unique_ptr<WeightSource> seeded_weights(std::uint64_t seed);

std::unique_ptr<WeightSource> checkpoint_weights(std::shared_ptr<const Checkpoint> checkpoint);

/// Names, shapes and kinds of all tensors of a model, in the published naming.
struct TensorSpec {
  enum Kind { matrix, bf16, f32 } kind;
  std::string name;  // matrix: without ".weight"
  int n = 0, k = 1;
};
std::vector<TensorSpec> tensors_of(const Config& config);

/// The text of a config.json for `config`, as published.
std::string config_text(const Config& config);

}  // namespace faultline::kernels::model
