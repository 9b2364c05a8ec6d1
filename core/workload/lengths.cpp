#include "core/workload/lengths.h"

#include <algorithm>
#include <cmath>

#include "core/base/assert.h"
#include "core/base/math.h"
#include "core/workload/gzip.h"
#include "core/workload/histogram.h"
#include "core/workload/trace.h"

namespace faultline::workload {
namespace {

/// Nearest whole number within the bounds; also where the draw overflowed a double.
Tokens clamped(double tokens, std::int64_t min, std::int64_t max) {
  if (!(tokens < static_cast<double>(max))) return Tokens{max};
  return Tokens{std::clamp(static_cast<std::int64_t>(tokens + 0.5), min, max)};
}

class LengthSampler {
 public:
  LengthSampler(const LengthSpec& s, Histogram histogram) : spec_(s), histogram_(std::move(histogram)) {
    FAULTLINE_ASSERT(s.min.v >= 1 && s.min <= s.max && s.tokens.v >= 1, "min={} max={} tokens={}", s.min.v, s.max.v,
                     s.tokens.v);
    if (s.kind == LengthKind::lognormal) {
      FAULTLINE_ASSERT(s.mean > 0 && s.p50.has_value() != s.sigma.has_value(), "mean={}", s.mean);
      deviation_ = s.sigma ? *s.sigma : std::sqrt(2 * stable::log(s.mean / *s.p50));
      log_mean_ = stable::log(s.mean) - 0.5 * deviation_ * deviation_;
    } else if (s.kind == LengthKind::geometric) {
      FAULTLINE_ASSERT(s.mean >= 1, "mean={}", s.mean);
      log_miss_ = s.mean > 1 ? stable::log(1 - 1 / s.mean) : 0;
    }
  }

  Tokens draw(Random r) const {
    const std::int64_t min = spec_.min.v, max = spec_.max.v;
    switch (spec_.kind) {
      case LengthKind::fixed: return spec_.tokens;
      case LengthKind::uniform:
        return Tokens{min + static_cast<std::int64_t>(r.below(static_cast<std::uint64_t>(max - min + 1)))};
      case LengthKind::lognormal: return clamped(r.lognormal(log_mean_, deviation_), min, max);
      case LengthKind::exponential: return clamped(r.exponential(spec_.mean), min, max);
      case LengthKind::geometric:
        // Trials until the first success: 1 + floor(ln u / ln(1 - p)), p = 1 / mean.
        return clamped(log_miss_ < 0 ? 1 + std::floor(stable::log(r.uniform_open()) / log_miss_) : 1, min, max);
      case LengthKind::empirical: return clamped(histogram_.draw(r), min, max);
    }
    FAULTLINE_ASSERT(false, "kind={}", static_cast<int>(spec_.kind));
    return {};
  }

 private:
  LengthSpec spec_;
  Histogram histogram_;
  double log_mean_ = 0, deviation_ = 0, log_miss_ = 0;
};

class IndependentLengths final : public LengthSource {
 public:
  IndependentLengths(LengthSampler prompt, LengthSampler output, std::uint64_t seed)
      : prompt_(std::move(prompt)),
        output_(std::move(output)),
        prompts_(seed, "workload/prompt"),
        outputs_(seed, "workload/output") {}
  Lengths of(std::uint64_t index) const override {
    return {prompt_.draw(prompts_.at(index)), output_.draw(outputs_.at(index))};
  }

 private:
  LengthSampler prompt_, output_;
  Random prompts_, outputs_;
};

class MixtureLengths final : public LengthSource {
 public:
  MixtureLengths(const LengthMixture& mixture, std::uint64_t seed)
      : mixture_(mixture), stream_(seed, "workload/lengths") {}

  Lengths of(std::uint64_t index) const override {
    Random r = stream_.at(index);
    double left = r.uniform();
    std::size_t k = 0;
    while (k + 1 < mixture_.components.size() && left >= mixture_.components[k].weight)
      left -= mixture_.components[k++].weight;
    const LognormalPair& c = mixture_.components[k];
    const auto [x, z] = r.normal_pair();
    const double y = c.correlation * x + std::sqrt(1 - c.correlation * c.correlation) * z;
    return {clamped(mixture_.prompt_factor * stable::exp(c.prompt_log_mean + c.prompt_log_deviation * x),
                    mixture_.prompt_min, mixture_.prompt_max),
            clamped(mixture_.output_factor * stable::exp(c.output_log_mean + c.output_log_deviation * y),
                    mixture_.output_min, mixture_.output_max)};
  }

 private:
  const LengthMixture& mixture_;
  Random stream_;
};

class TraceLengths final : public LengthSource {
 public:
  TraceLengths(Trace trace, std::uint64_t seed) : trace_(std::move(trace)), stream_(seed, "workload/lengths") {}
  Lengths of(std::uint64_t index) const override {
    Random r = stream_.at(index);
    const TraceRow& row = trace_.rows[r.below(trace_.rows.size())];
    return {Tokens{row.prompt}, Tokens{row.output}};
  }

 private:
  Trace trace_;
  Random stream_;
};

std::optional<LengthSampler> make_sampler(const LengthSpec& spec, const config::FileReader& reader,
                                          config::Diagnostics& diagnostics) {
  if (spec.kind != LengthKind::empirical) return LengthSampler(spec, {});
  const auto text = read_unpacked(spec.file, reader, diagnostics);
  if (!text) return std::nullopt;
  auto histogram = read_histogram(*text, spec.file, diagnostics);
  if (!histogram) return std::nullopt;
  return LengthSampler(spec, *std::move(histogram));
}

}  // namespace

std::unique_ptr<LengthSource> make_length_source(const LengthsSpec& spec, std::uint64_t seed,
                                                 const config::FileReader& reader, config::Diagnostics& diagnostics) {
  switch (spec.kind) {
    case LengthsKind::independent: {
      auto prompt = make_sampler(spec.prompt, reader, diagnostics);
      auto output = make_sampler(spec.output, reader, diagnostics);
      if (!prompt || !output) return nullptr;
      return std::make_unique<IndependentLengths>(*std::move(prompt), *std::move(output), seed);
    }
    case LengthsKind::azure_conversation: return std::make_unique<MixtureLengths>(azure_conversation_lengths(), seed);
    case LengthsKind::azure_code: return std::make_unique<MixtureLengths>(azure_code_lengths(), seed);
    case LengthsKind::trace: {
      auto trace = read_trace({.path = spec.file, .format = spec.format}, reader, diagnostics);
      if (!trace) return nullptr;
      return std::make_unique<TraceLengths>(*std::move(trace), seed);
    }
  }
  FAULTLINE_ASSERT(false, "kind={}", static_cast<int>(spec.kind));
  return nullptr;
}

}  // namespace faultline::workload
