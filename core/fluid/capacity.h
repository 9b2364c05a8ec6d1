// What a fleet can serve within its SLO, in closed form: requests per second of each kind of group, and how many
// requests a group holds at a load. `fluid` fidelity and `plan` rest on these numbers; a step run checks them.
//
//   decode    the largest batch whose step stays within the strictest TPOT limit (and within memory and max_num_seqs);
//   the
//             number of sequences varies as in M/G/infinity (Poisson), and its 99th percentile is to fit;
//             requests/s = ranks * batch / (step * mean output tokens)
//   prefill   a rank prefills one prompt after the other; M/G/1 waiting, exponential tail: the 99th percentile of
//   waiting
//             and service together stays within the strictest TTFT limit
//   both      steps that hold a decode batch and, in a share of them, prompts: the time for both adds up
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "core/experiment/deployment.h"

namespace faultline::fluid {

/// The load as a fluid: a rate over time, and moments of the lengths.
struct Load {
  double rate = 0;       // requests per second, mean over a period
  double amplitude = 0;  // rate(t) = rate * (1 + amplitude * sin(2 pi (t + phase) / period))
  double period_s = 86'400, phase_s = 0;
  double prompt_mean = 0, output_mean = 0;
  double prompt_spread = 1;  // E[P^2] / E[P]^2 of the prompts: waiting grows with it
  /// E[S^2] / 2E[S] of the output lengths: tokens that a request hit at a random moment already has (inspection
  /// paradox).
  double output_age = 0;
  /// Prompt and output together, mean: of a request met in prefill or in decode at a random moment (in proportion to
  /// the time that it is there: its prompt, its output). Of one that arrives: prompt_mean + output_mean.
  double tokens_in_prefill = 0, tokens_in_decode = 0;
  double square_in_decode = 0;  // mean of their square, in decode
  double at(double seconds) const;
};

/// Means over up to 4,096 requests of the workload. A trace's rate is its own over its length. Throws ConfigError.
Load load_of(const experiment::ExperimentSpec& spec, const config::FileReader& reader);

struct RoleCapacity {
  double requests_per_s = 0;  // of one group, within the SLO; 0: it cannot meet it at any batch
  std::int64_t batch = 0;     // decode: sequences of a rank at that rate
  double step_s = 0;          // decode step there; prefill: time of a mean prompt
  std::int64_t gpus = 0;      // of one group
  std::string limit;          // what bounds it: "TPOT", "memory", "max_num_seqs", "TTFT", or why it is 0
  /// Requests that one group holds at a utilisation of k/16, k = 0 … 16 (Little's law at the step time of that batch).
  std::vector<double> held;
  double held_at(double utilisation) const;
  /// Factor on the time of a step of `batch` sequences a rank (prefill: of a mean prompt) with one rank slowed by
  /// `slow` and these shares (> 0) of the NICs' and the xGMI links' capacity left.
  double slowdown(std::int64_t batch, double slow, double rdma_share, double xgmi_share) const;
  /// Seconds of a decode step of `batch` sequences a rank, healthy.
  double step_at(std::int64_t batch) const;
  const model::StepPricer* pricer = nullptr;
  std::int64_t context = 0;  // tokens of one sequence, mean over its life
};

struct Capacity {
  Load load;
  RoleCapacity prefill, decode, both;  // those that the layout has; others have gpus == 0
  double tpot_limit_s = 0;             // strictest
  double ttft_slack_s = 0;             // strictest TTFT limit less the prefill of a mean prompt
  /// Of one whole instance: what its prefill and its decode groups both sustain.
  double instance_requests_per_s = 0;
};

/// Prices used at that load: the operations' shares of the GPU time of one request, and which are extrapolated.
record::CostModelUse cost_model_of(const experiment::ExperimentSpec& spec, const experiment::Deployment& deployment,
                                   const Capacity& capacity);

Capacity capacity_of(const experiment::ExperimentSpec& spec, const experiment::Deployment& deployment,
                     const Load& load);

}  // namespace faultline::fluid
