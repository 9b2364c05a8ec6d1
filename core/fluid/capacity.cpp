#include "core/fluid/capacity.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "core/base/math.h"

namespace faultline::fluid {
namespace {

constexpr std::int64_t kSample = 4096;  // requests that the means are taken over
constexpr double kPi = 3.14159265358979323846;

double seconds_of(model::FixedTime t) { return model::nanoseconds(t) * 1e-9; }

double decode_step_s(const RoleCapacity& r, std::int64_t batch, const model::StepEnvironment& environment = {}) {
  const std::vector<model::RankLoad> loads(static_cast<std::size_t>(r.pricer->ranks()),
                                           {static_cast<std::int32_t>(batch), batch * r.context});
  return seconds_of(r.pricer->step({}, loads, environment));
}

/// One prompt on every rank, in chunks of at most `chunk` tokens.
double prefill_s(const model::StepPricer& pricer, std::int64_t prompt, std::int64_t chunk,
                 const model::StepEnvironment& environment = {}) {
  double total = 0;
  for (std::int64_t done = 0; done < prompt; done += chunk) {
    std::vector<model::PrefillItem> items;
    for (std::int64_t rank = 0; rank < pricer.ranks(); ++rank)
      items.push_back({static_cast<std::int32_t>(rank), std::min(chunk, prompt - done), done});
    total += seconds_of(pricer.step(items, {}, environment));
  }
  return total;
}

struct Limits {
  double tpot_s = 1e18, ttft_s = 1e18;
};
Limits limits_of(const workload::WorkloadSpec& w) {
  Limits l;
  for (const auto& c : w.slo) {
    if (c.tpot != kForever) l.tpot_s = std::min(l.tpot_s, seconds(c.tpot));
    if (c.ttft != kForever) l.ttft_s = std::min(l.ttft_s, seconds(c.ttft));
  }
  return l;
}

/// Largest utilisation of an M/G/1 server at which waiting plus service stays within `limit` in 99 of 100 cases. Its
/// mean wait is rho t s / (2 (1 - rho)) with s = E[T^2] / E[T]^2 (Pollaczek-Khinchine); the tail is taken as
/// exponential: p99 = ln(100) * mean. `service` is the mean; prompts prefill in proportion to their length.
double utilisation_within(double service, double spread, double limit) {
  if (limit > 1e17) return 0.98;
  if (service >= limit) return 0;
  const double mean = (limit - service) / 4.605170185988091;
  return std::min(0.98, 2 * mean / (2 * mean + service * spread));
}

/// Largest mean batch of `ranks` ranks whose Poisson 99th percentile is `most`: L + 2.33 sqrt(L) <= ranks * most.
std::int64_t mean_batch(std::int64_t most, std::int64_t ranks) {
  const double limit = static_cast<double>(most * ranks), root = (-2.33 + std::sqrt(2.33 * 2.33 + 4 * limit)) / 2;
  return std::max<std::int64_t>(most > 0 ? 1 : 0, static_cast<std::int64_t>(root * root / static_cast<double>(ranks)));
}

std::int64_t largest_batch(const RoleCapacity& r, const experiment::ExperimentSpec& spec,
                           const model::MemoryBudget& memory, double limit_s, std::string& reason) {
  const std::int64_t room = std::max<std::int64_t>(0, memory.tokens.v / std::max<std::int64_t>(1, r.context));
  std::int64_t high = std::min(room, spec.engine.max_num_seqs);
  reason = room < spec.engine.max_num_seqs ? "memory" : "max_num_seqs";
  if (high < 1) {
    reason = "no sequence of the mean length fits into the KV cache";
    return 0;
  }
  if (decode_step_s(r, high) <= limit_s) return high;
  reason = "TPOT";
  std::int64_t low = 0;  // holds; high does not
  while (high - low > 1) {
    const std::int64_t middle = (low + high) / 2;
    (decode_step_s(r, middle) <= limit_s ? low : high) = middle;
  }
  if (low == 0)
    reason = fmt::format("a step of one sequence takes {:.1f} ms, the TPOT limit is {:.1f} ms",
                         decode_step_s(r, 1) * 1e3, limit_s * 1e3);
  return low;
}

/// Requests held by Little's law: the number in the group equals arrivals times the time each stays.
void fill_held(RoleCapacity& r, double output_mean) {
  const double ranks = static_cast<double>(r.pricer->ranks());
  r.held.assign(17, 0);
  for (std::size_t k = 1; k <= 16; ++k) {
    const double rate = r.requests_per_s * static_cast<double>(k) / 16;
    double held = ranks;
    for (int round = 0; round < 60; ++round) {  // the step grows slower than the batch: converges from any start
      const auto batch = std::max<std::int64_t>(1, static_cast<std::int64_t>(held / ranks + 0.5));
      const double next = rate * output_mean * decode_step_s(r, batch);
      if (next - held < 0.5 && held - next < 0.5) break;
      held = (held + next) / 2;
    }
    r.held[k] = held;
  }
}

}  // namespace

double Load::at(double s) const {
  if (amplitude == 0) return rate;
  const double turns = (s + phase_s) / period_s;
  return rate *
         (1 + amplitude * stable::sin(2 * kPi * (turns - static_cast<double>(static_cast<std::int64_t>(turns)))));
}

double RoleCapacity::held_at(double utilisation) const {
  if (held.empty()) return 0;
  const double x = std::clamp(utilisation, 0.0, 1.0) * 16;
  const auto k = std::min<std::size_t>(15, static_cast<std::size_t>(x));
  return held[k] + (held[k + 1] - held[k]) * (x - static_cast<double>(k));
}

double RoleCapacity::slowdown(std::int64_t sequences, double slow, double rdma_share, double xgmi_share) const {
  if (pricer == nullptr || (slow <= 1 && rdma_share >= 1 && xgmi_share >= 1)) return 1;
  std::vector<double> ranks(static_cast<std::size_t>(pricer->ranks()), 1.0);
  ranks.front() = slow;
  model::StepEnvironment environment;
  environment.rank_slowdown = ranks;
  environment.rdma_capacity_factor = rdma_share;
  environment.xgmi_capacity_factor = xgmi_share;
  if (batch > 0) {
    sequences = std::max<std::int64_t>(1, sequences);
    return decode_step_s(*this, sequences, environment) / decode_step_s(*this, sequences);
  }
  const auto prompt = std::max<std::int64_t>(1, context);
  return prefill_s(*pricer, prompt, prompt, environment) / prefill_s(*pricer, prompt, prompt);
}

double RoleCapacity::step_at(std::int64_t sequences) const {
  return decode_step_s(*this, std::max<std::int64_t>(1, sequences));
}

Load load_of(const experiment::ExperimentSpec& spec, const config::FileReader& reader) {
  config::Diagnostics diagnostics;
  const auto source = workload::make_source(spec.workload, spec.seed, reader, diagnostics);
  diagnostics.throw_if_any();
  Load load;
  double prompts = 0, prompt_squares = 0, outputs = 0, squares = 0, products = 0, held_squares = 0;
  std::int64_t n = 0;
  Instant last{0};
  for (workload::Arrival a; n < kSample && source->next(a); ++n) {
    last = a.at;
    const auto p = static_cast<double>(a.prompt.v), o = static_cast<double>(a.output.v);
    prompts += p;
    prompt_squares += p * p;
    outputs += o;
    squares += o * o;
    products += p * o;
    held_squares += (p + o) * (p + o) * o;
  }
  if (n == 0) return load;
  load.prompt_mean = prompts / static_cast<double>(n);
  load.prompt_spread = prompt_squares * static_cast<double>(n) / (prompts * prompts);
  load.output_mean = outputs / static_cast<double>(n);
  load.output_age = outputs > 0 ? squares / (2 * outputs) : 0;
  load.tokens_in_prefill = prompts > 0 ? (prompt_squares + products) / prompts : load.output_mean;
  load.tokens_in_decode = outputs > 0 ? (squares + products) / outputs : load.prompt_mean;
  load.square_in_decode = outputs > 0 ? held_squares / outputs : 0;
  const auto& a = spec.workload.arrivals;
  if (spec.workload.trace) {
    load.rate = last.ns > 0 ? static_cast<double>(n) / seconds(last) : 0;
  } else if (a.kind == workload::ArrivalKind::onoff) {
    const double on = seconds(a.mean_on), off = seconds(a.mean_off);
    load.rate = (a.rate_on * on + a.rate_off * off) / (on + off) * spec.workload.rate_scale;
  } else {
    load.rate = a.rate * spec.workload.rate_scale;
    if (a.kind == workload::ArrivalKind::diurnal) {
      load.amplitude = a.amplitude;
      load.period_s = seconds(a.period);
      load.phase_s = seconds(a.phase);
    }
  }
  return load;
}

Capacity capacity_of(const experiment::ExperimentSpec& spec, const experiment::Deployment& d, const Load& load) {
  Capacity c;
  c.load = load;
  const Limits limits = limits_of(spec.workload);
  const auto prompt = std::max<std::int64_t>(1, static_cast<std::int64_t>(load.prompt_mean + 0.5));
  // Of a sequence in the batch at a random moment: longer outputs are there for longer.
  const auto context = std::max<std::int64_t>(1, static_cast<std::int64_t>(load.prompt_mean + load.output_age + 0.5));
  const double output = std::max(1.0, load.output_mean);
  const auto set_up = [&](RoleCapacity& r, const experiment::Deployment::Role& role, std::int64_t tokens) {
    r.pricer = role.pricer.get();
    r.gpus = role.plan.gpu_count();
    r.context = tokens;
  };
  double prefill_time = 0;
  if (d.prefill) {
    RoleCapacity& r = c.prefill;
    set_up(r, *d.prefill, prompt);
    prefill_time = r.step_s = prefill_s(*r.pricer, prompt, spec.engine.max_num_batched_tokens);
    const double utilisation = utilisation_within(r.step_s, load.prompt_spread, limits.ttft_s);
    r.limit = utilisation > 0 ? "TTFT"
                              : fmt::format("a mean prompt takes {:.0f} ms, the TTFT limit is {:.0f} ms",
                                            r.step_s * 1e3, limits.ttft_s * 1e3);
    const double ranks = static_cast<double>(r.pricer->ranks());
    r.requests_per_s = utilisation * ranks / r.step_s;
    for (int k = 0; k <= 16; ++k) {  // in service and waiting, M/G/1 for each rank
      const double rho = utilisation * k / 16;
      r.held.push_back(ranks * (rho + rho * rho * load.prompt_spread / (2 * (1 - rho))));
    }
  }
  if (d.decode) {
    RoleCapacity& r = c.decode;
    set_up(r, *d.decode, context);
    r.batch = mean_batch(largest_batch(r, spec, d.decode->memory, limits.tpot_s, r.limit), r.pricer->ranks());
    if (r.batch > 0) {
      r.step_s = decode_step_s(r, r.batch);
      r.requests_per_s = static_cast<double>(r.pricer->ranks() * r.batch) / (r.step_s * output);
      fill_held(r, output);
    }
  }
  if (d.both) {
    RoleCapacity& r = c.both;
    set_up(r, *d.both, context);
    prefill_time = prefill_s(*r.pricer, prompt, spec.engine.max_num_batched_tokens);
    // A request's share of the group's time: its prompt on one rank, its output in steps that all ranks share. A token
    // then comes every step / (1 - prefill's share); the largest rate within the TPOT limit is found by bisection.
    const double ranks = static_cast<double>(r.pricer->ranks());
    std::string reason;
    const std::int64_t most =
        mean_batch(largest_batch(r, spec, d.both->memory, limits.tpot_s, reason), r.pricer->ranks());
    r.limit = reason;
    for (std::int64_t batch = most; batch > 0; batch = batch * 15 / 16) {
      const double step = decode_step_s(r, batch);
      const double rate = 1 / (prefill_time / ranks + step * output / (ranks * static_cast<double>(batch)));
      const double share = rate * prefill_time / ranks;
      const double tpot = step / (1 - share);
      if (tpot <= limits.tpot_s && utilisation_within(prefill_time, load.prompt_spread, limits.ttft_s) > share &&
          rate > r.requests_per_s) {
        r.requests_per_s = rate;
        r.batch = batch;
        r.step_s = tpot;
      }
      if (batch < 16) break;
    }
    if (r.requests_per_s > 0) fill_held(r, output);
  }
  c.tpot_limit_s = limits.tpot_s;
  c.ttft_slack_s = std::max(0.0, std::min(limits.ttft_s, 1e9) - prefill_time);
  if (d.both) c.instance_requests_per_s = c.both.requests_per_s * d.both->groups;
  else
    c.instance_requests_per_s =
        std::min(c.prefill.requests_per_s * d.prefill->groups, c.decode.requests_per_s * d.decode->groups);
  if (const double factor = spec.fluid.capacity_factor; factor != 1) {
    for (RoleCapacity* r : {&c.prefill, &c.decode, &c.both}) {
      std::vector<double> held;  // at the same rates as before: a lower utilisation of the closed form's capacity
      for (int k = 0; k <= 16 && !r->held.empty(); ++k) held.push_back(r->held_at(factor * k / 16));
      r->held = std::move(held);
      r->requests_per_s *= factor;
    }
    c.instance_requests_per_s *= factor;
  }
  return c;
}

record::CostModelUse cost_model_of(const experiment::ExperimentSpec& spec, const experiment::Deployment& d,
                                   const Capacity& capacity) {
  model::OpShares shares;
  const auto prompt = std::max<std::int64_t>(1, static_cast<std::int64_t>(capacity.load.prompt_mean + 0.5));
  const double output = std::max(1.0, capacity.load.output_mean);
  const auto ns = [](double s) { return static_cast<std::int64_t>(s * 1e9); };
  for (const RoleCapacity* r : {&capacity.prefill, &capacity.decode, &capacity.both}) {
    if (r->gpus == 0) continue;
    const auto ranks = static_cast<std::size_t>(r->pricer->ranks());
    model::StepSamples samples(*r->pricer, static_cast<double>(r->gpus));
    if (r != &capacity.decode) {  // one prompt on every rank: a request's share is one rank's
      const auto chunk = std::min(prompt, spec.engine.max_num_batched_tokens);
      std::vector<model::PrefillItem> items;
      for (std::size_t k = 0; k < ranks; ++k) items.push_back({static_cast<std::int32_t>(k), chunk, 0});
      samples.add(items, {}, ns(prefill_s(*r->pricer, prompt, chunk) / static_cast<double>(ranks)));
    }
    if (r != &capacity.prefill) {
      const auto batch = std::max<std::int64_t>(1, r->batch);
      const double share = output / static_cast<double>(batch) / static_cast<double>(ranks);
      samples.add({}, {ranks, {static_cast<std::int32_t>(batch), batch * r->context}},
                  ns(decode_step_s(*r, batch) * share));
    }
    samples.append_to(shares);
  }
  record::CostModelUse use = d.cost_model;
  use.extrapolated = experiment::extrapolated_in(shares);
  return use;
}

}  // namespace faultline::fluid
