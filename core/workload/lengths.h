// How long requests are: pairs (prompt, output) keyed by the request's index.
#pragma once

#include <cstdint>
#include <memory>
#include <span>

#include "core/base/random.h"
#include "core/config/document.h"
#include "core/workload/spec.h"

namespace faultline::workload {

struct Lengths {
  Tokens prompt, output;
};

class LengthSource {
 public:
  virtual ~LengthSource() = default;
  /// Lengths of request `index`, each at least 1: a pure function of the seed and the index.
  virtual Lengths of(std::uint64_t index) const = 0;
};

/// One component of a mixture of two-dimensional lognormals: (ln prompt, ln output) is normal.
struct LognormalPair {
  double weight;
  double prompt_log_mean, prompt_log_deviation;
  double output_log_mean, output_log_deviation;
  double correlation;  // of the logarithms, -1 … 1
};

struct LengthMixture {
  std::span<const LognormalPair> components;  // weights add up to 1 within rounding
  double prompt_factor, output_factor;        // multiply the draws before rounding and clamping
  std::int64_t prompt_min, prompt_max, output_min, output_max;
};

/// Built-in mixtures (azure_lengths.cpp: data, fit and its quality).
const LengthMixture& azure_conversation_lengths();
const LengthMixture& azure_code_lengths();

/// Null after errors in a histogram or trace file that `spec` names.
std::unique_ptr<LengthSource> make_length_source(const LengthsSpec& spec, std::uint64_t seed,
                                                 const config::FileReader& reader, config::Diagnostics& diagnostics);

}  // namespace faultline::workload
