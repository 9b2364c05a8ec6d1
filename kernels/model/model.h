// A DeepSeek-V3-shaped model that runs on a Device, one step at a time, built from the kernels. Operation names are
// those of the simulator's step plan (qkv_down, mla_decode, experts_up, …), so that calibration can compare op by op.
//
// A step is a batch of sequences with new tokens each. New tokens with nothing cached before them (whole prefills) use
// non-absorbed attention in bf16; all others (decode, later chunks) read the latent cache with absorbed projections.
// After construction a step allocates nothing, so it can be captured: prepare() writes the inputs, launch() only
// launches.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "kernels/model/config.h"
#include "kernels/model/weights.h"
#include "kernels/runtime/device.h"

namespace faultline::kernels::model {

enum class CacheFormat : std::uint8_t { bf16, fp8 };

struct Limits {
  int tokens = 256;  // new tokens of a step
  int sequences = 16;
  int positions = 1024;  // longest sequence
  int pages = 64;        // of 64 tokens
  CacheFormat cache = CacheFormat::fp8;
  /// Value of one unit of an FP8 cache line and of an absorbed FP8 query: range +-224 (448 FN) times this. Powers of
  /// two.
  float cache_scale = 0.125F, query_scale = 0.125F;
};

/// One operation that ran; the op log is a list of these. Unused numbers are 0 (batch: 1).
struct OpRecord {
  std::string name, kind, precision;
  std::int64_t m = 0, n = 0, k = 0, batch = 1, groups = 0, sequences = 0, tokens = 0, context = 0, heads = 0;
  double nanoseconds = 0;
};

struct SequenceInput {
  std::vector<int> tokens;  // new ones, at least one
  int cached = 0;           // tokens already in the cache
  std::vector<int> pages;   // enough for cached + new
};

class Model {
 public:
  /// Throws std::invalid_argument for a shape the kernels cannot run, BadFile from the source, std::runtime_error when
  /// memory runs out.
  Model(Device& device, const Config& config, const WeightSource& weights, const Limits& limits);
  ~Model();

  /// Copies the step's inputs to the device. Throws std::invalid_argument when they exceed the limits or are
  /// inconsistent.
  void prepare(const std::vector<SequenceInput>& sequences);
  /// Launches the step that was prepared; only launches, so it may stand between begin_capture and end_capture. A graph
  /// may be run again after another prepare() with the same number of tokens of each sequence and the same kind
  /// (prefill or not).
  Outcome<> launch(std::vector<OpRecord>* log = nullptr);
  /// Logits of each sequence's last new token, float [sequences][vocabulary]. Waits.
  std::vector<float> logits();
  /// The largest logit's token of each sequence, chosen on the device. Waits.
  std::vector<int> greedy();
  /// prepare + launch + logits.
  std::vector<float> step(const std::vector<SequenceInput>& sequences, std::vector<OpRecord>* log = nullptr);
  /// Status bits set since the last call (types.h).
  std::uint32_t take_status();

  const Config& config() const { return config_; }

 private:
  struct Parts;
  struct Step;
  Config config_;
  Limits limits_;
  Device& device_;
  std::unique_ptr<Parts> parts_;
};

/// Greedy continuation of several prompts, each a sequence of its own: prefill, then decode in one batch. Pages are
/// taken in order.
std::vector<std::vector<int>> generate(Model& model, const std::vector<std::vector<int>>& prompts, int new_tokens);

/// One JSON object a line: {"op": …, "kind": …, "precision": …, "m": …, …, "ns": …, "device": …}; zero fields are left
/// out.
std::string op_log_line(const OpRecord& record, const std::string& device);

}  // namespace faultline::kernels::model
