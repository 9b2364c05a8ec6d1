// make_source(): puts times, lengths and latency classes together, and the limits around any source.
#include <fmt/format.h>

#include <algorithm>

#include "core/base/assert.h"
#include "core/workload/arrival_times.h"
#include "core/workload/lengths.h"
#include "core/workload/load.h"
#include "core/workload/prefixes.h"
#include "core/workload/replay.h"
#include "core/workload/spec.h"

namespace faultline::workload {
namespace {

class GeneratedSource final : public ArrivalSource {
 public:
  GeneratedSource(std::unique_ptr<ArrivalTimes> times, std::unique_ptr<LengthSource> lengths)
      : times_(std::move(times)), lengths_(std::move(lengths)) {}

  bool next(Arrival& arrival) override {
    const Instant at = times_->next();
    if (at == kNever) return false;
    const Lengths l = lengths_->of(index_++);
    arrival = {.at = at, .prompt = l.prompt, .output = l.output};
    return true;
  }

 private:
  std::unique_ptr<ArrivalTimes> times_;
  std::unique_ptr<LengthSource> lengths_;
  std::uint64_t index_ = 0;
};

/// Draws a class for each request by the shares, keyed by the request's index.
class ClassPicker {
 public:
  ClassPicker(const std::vector<SloClass>& classes, std::uint64_t seed) : stream_(seed, "workload/slo") {
    double sum = 0;
    for (const SloClass& c : classes) cumulative_.push_back(sum += c.share);
  }
  std::uint8_t pick(std::uint64_t index) const {
    if (cumulative_.size() < 2) return 0;
    const double at = stream_.at(index).uniform() * cumulative_.back();
    std::size_t k = 0;
    while (k + 1 < cumulative_.size() && at >= cumulative_[k]) ++k;
    return static_cast<std::uint8_t>(k);
  }

 private:
  Random stream_;
  std::vector<double> cumulative_;
};

/// The limits and clamps of the spec around any source, and its classes.
class LimitedSource final : public ArrivalSource {
 public:
  LimitedSource(std::unique_ptr<ArrivalSource> inner, const WorkloadSpec& spec, std::vector<std::uint8_t> class_map,
                std::uint64_t seed)
      : inner_(std::move(inner)),
        left_(spec.requests.value_or(-1)),
        end_(spec.duration ? Instant{spec.duration->v} : kNever),
        prompt_max_(spec.prompt_max.value_or(Tokens{std::numeric_limits<std::int64_t>::max()})),
        output_max_(spec.output_max.value_or(Tokens{std::numeric_limits<std::int64_t>::max()})),
        class_map_(std::move(class_map)),
        picker_(spec.slo, seed) {}

  bool next(Arrival& arrival) override {
    if (left_ == 0) return false;
    Arrival candidate;
    if (!inner_->next(candidate) || candidate.at >= end_) {
      left_ = 0;
      return false;
    }
    if (left_ > 0) --left_;
    candidate.prompt = std::min(candidate.prompt, prompt_max_);
    candidate.output = std::min(candidate.output, output_max_);
    if (!candidate.prefix_blocks.empty()) {  // a shortened prompt has fewer blocks
      const auto tokens = static_cast<std::size_t>(candidate.prompt.v);
      const std::size_t most = (tokens + candidate.prefix_block_tokens - 1) / candidate.prefix_block_tokens;
      candidate.prefix_blocks = candidate.prefix_blocks.first(std::min(most, candidate.prefix_blocks.size()));
    }
    candidate.slo_class = class_map_.empty() ? picker_.pick(index_) : class_map_[candidate.slo_class];
    ++index_;
    arrival = candidate;
    return true;
  }

 private:
  std::unique_ptr<ArrivalSource> inner_;
  std::int64_t left_;  // negative: no limit
  Instant end_;
  Tokens prompt_max_, output_max_;
  std::vector<std::uint8_t> class_map_;  // from the trace's classes to the spec's; empty: drawn
  ClassPicker picker_;
  std::uint64_t index_ = 0;
};

/// The spec's class of each class that the trace names.
std::optional<std::vector<std::uint8_t>> map_classes(const Trace& trace, const std::vector<SloClass>& slo,
                                                     config::Diagnostics& diagnostics) {
  std::vector<std::string> names;
  for (const SloClass& c : slo) names.push_back(c.name);
  std::vector<std::uint8_t> map;
  bool good = true;
  for (const TraceClass& c : trace.classes) {
    const auto found = std::find(names.begin(), names.end(), c.name);
    if (found == names.end()) {
      const std::string suggestion = config::did_you_mean(c.name, names);
      diagnostics.error({trace.file, c.line, c.column}, fmt::format("column slo_class: unknown class '{}'", c.name),
                        fmt::format("classes of the experiment: {}{}{}", config::name_list(names),
                                    suggestion.empty() ? "" : " ", suggestion));
      good = false;
    }
    map.push_back(static_cast<std::uint8_t>(found - names.begin()));
  }
  if (!good) return std::nullopt;
  return map;
}

}  // namespace

std::unique_ptr<ArrivalSource> make_source(const WorkloadSpec& spec, std::uint64_t seed,
                                           const config::FileReader& reader, config::Diagnostics& diagnostics) {
  FAULTLINE_ASSERT(!spec.slo.empty() && spec.slo.size() <= 256, "classes={}", spec.slo.size());
  const bool ends = spec.requests || spec.duration;
  if (!ends && (!spec.trace || spec.trace->loop)) {
    diagnostics.error({spec.trace ? spec.trace->path : "workload", 0, 0}, "needs an end: 'requests' or 'duration'");
    return nullptr;
  }
  std::unique_ptr<ArrivalSource> inner;
  std::vector<std::uint8_t> class_map;
  if (!spec.trace) {
    auto lengths = make_length_source(spec.lengths, seed, reader, diagnostics);
    if (!lengths) return nullptr;
    inner =
        std::make_unique<GeneratedSource>(make_arrival_times(spec.arrivals, spec.rate_scale, seed), std::move(lengths));
    if (spec.prefixes) inner = with_prefixes(std::move(inner), *spec.prefixes, seed);
    return std::make_unique<LimitedSource>(std::move(inner), spec, std::move(class_map), seed);
  }
  LoadedTrace loaded = load_trace(*spec.trace, reader, diagnostics);
  if (auto* folder = std::get_if<ServeGenFolder>(&loaded)) {
    if (busiest_window(*folder) * spec.rate_scale > kWindowRequestsScaledMax) {
      diagnostics.error({spec.trace->path, 0, 0}, fmt::format("rate_scale {} makes a window of more than {} requests",
                                                              spec.rate_scale, kWindowRequestsScaledMax));
      return nullptr;
    }
    inner = make_servegen_source(std::move(*folder), spec.trace->time_scale, spec.rate_scale, spec.trace->loop, seed);
  } else if (auto* trace = std::get_if<Trace>(&loaded)) {
    auto map = map_classes(*trace, spec.slo, diagnostics);
    if (!map) return nullptr;
    class_map = *std::move(map);
    inner = std::make_unique<ReplaySource>(
        std::move(*trace), ReplayOptions{spec.trace->time_scale, spec.rate_scale, spec.trace->loop}, seed);
  } else {
    return nullptr;
  }
  return std::make_unique<LimitedSource>(std::move(inner), spec, std::move(class_map), seed);
}

}  // namespace faultline::workload
