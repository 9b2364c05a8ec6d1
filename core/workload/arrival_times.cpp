#include "core/workload/arrival_times.h"

#include "core/base/assert.h"
#include "core/base/math.h"
#include "core/base/random.h"

namespace faultline::workload {
namespace {

constexpr double kTwoPi = 6.28318530717958647693;

Instant advance(Instant at, Duration gap) {
  if (gap.v >= kNever.ns - at.ns) return kNever;
  return at + gap;
}

class ConstantTimes final : public ArrivalTimes {
 public:
  explicit ConstantTimes(double rate) : rate_(rate) {}
  Instant next() override {
    // From the index, not by adding gaps: a rate such as 3/s would drift by the rounding of its gap.
    return Instant{duration_from_seconds(static_cast<double>(index_++) / rate_).v};
  }

 private:
  double rate_;
  std::uint64_t index_ = 0;
};

enum class Gap { exponential, gamma, weibull };

class RenewalTimes final : public ArrivalTimes {
 public:
  RenewalTimes(Gap gap, double shape, double scale, std::uint64_t seed)
      : gap_(gap), shape_(shape), scale_(scale), stream_(seed, "workload/gap") {}

  Instant next() override {
    Random r = stream_.at(index_++);
    double s = 0;
    switch (gap_) {
      case Gap::exponential: s = r.exponential(scale_); break;
      case Gap::gamma: s = r.gamma(shape_, scale_); break;
      case Gap::weibull: s = r.weibull(shape_, scale_); break;
    }
    return at_ = advance(at_, duration_from_seconds(s));
  }

 private:
  Gap gap_;
  double shape_, scale_;
  Random stream_;
  std::uint64_t index_ = 0;
  Instant at_{};
};

/// A Poisson process whose rate alternates: an interrupted (or Markov-modulated) Poisson process of two states.
class OnOffTimes final : public ArrivalTimes {
 public:
  OnOffTimes(const ArrivalsSpec& s, double rate_scale, std::uint64_t seed)
      : rates_{s.rate_on * rate_scale, s.rate_off * rate_scale},
        means_{seconds(s.mean_on), seconds(s.mean_off)},
        stream_(seed, "workload/phase"),
        phase_stream_(stream_) {
    begin_phase(Instant{});
  }

  Instant next() override {
    while (at_ != kNever) {
      const double rate = rates_[phase_ & 1];
      // The exponential has no memory, so a gap that crosses the end of a phase is drawn anew from there.
      const Instant candidate =
          rate > 0 ? advance(at_, duration_from_seconds(phase_stream_.exponential(1 / rate))) : kNever;
      if (candidate < phase_end_) return at_ = candidate;
      ++phase_;
      begin_phase(phase_end_);
    }
    return kNever;
  }

 private:
  void begin_phase(Instant at) {
    at_ = at;
    phase_stream_ = stream_.at(phase_);
    phase_end_ = advance(at, duration_from_seconds(phase_stream_.exponential(means_[phase_ & 1])));
  }

  double rates_[2], means_[2];
  Random stream_, phase_stream_;
  std::uint64_t phase_ = 0;  // even: on
  Instant at_{}, phase_end_{};
};

/// Non-homogeneous Poisson process by thinning (Lewis and Shedler, 1979): candidates at the highest rate, each kept
/// with chance rate(t) / highest.
class DiurnalTimes final : public ArrivalTimes {
 public:
  DiurnalTimes(const ArrivalsSpec& s, double rate_scale, std::uint64_t seed)
      : mean_gap_(1 / (s.rate * rate_scale * (1 + s.amplitude))),
        amplitude_(s.amplitude),
        period_(s.period),
        phase_(s.phase % s.period),
        stream_(seed, "workload/gap") {}

  Instant next() override {
    while (at_ != kNever) {
      Random r = stream_.at(index_++);
      at_ = advance(at_, duration_from_seconds(r.exponential(mean_gap_)));
      if (at_ == kNever) break;
      const Duration in_period = (Duration{at_.ns % period_.v} + phase_) % period_;
      const double turn = static_cast<double>(in_period.v) / static_cast<double>(period_.v);
      if (r.chance((1 + amplitude_ * stable::sin(kTwoPi * turn)) / (1 + amplitude_))) return at_;
    }
    return kNever;
  }

 private:
  double mean_gap_, amplitude_;
  Duration period_, phase_;
  Random stream_;
  std::uint64_t index_ = 0;
  Instant at_{};
};

}  // namespace

double weibull_mean(double shape) { return stable::exp(stable::lgamma(1 + 1 / shape)); }

double weibull_shape_of_cv(double cv) {
  FAULTLINE_ASSERT(cv >= 0.02 && cv <= 20, "cv={}", cv);
  double low = 0.1, high = 100;  // cv falls with the shape: about 430 at 0.1, 0.013 at 100
  for (int i = 0; i < 80; ++i) {
    const double k = 0.5 * (low + high);
    const double ratio = stable::exp(stable::lgamma(1 + 2 / k) - 2 * stable::lgamma(1 + 1 / k));
    (ratio - 1 > cv * cv ? low : high) = k;
  }
  return 0.5 * (low + high);
}

std::unique_ptr<ArrivalTimes> make_arrival_times(const ArrivalsSpec& s, double rate_scale, std::uint64_t seed) {
  FAULTLINE_ASSERT(rate_scale > 0, "rate_scale={}", rate_scale);
  const double rate = s.rate * rate_scale;
  switch (s.kind) {
    case ArrivalKind::poisson:
    case ArrivalKind::constant: {
      FAULTLINE_ASSERT(rate > 0, "rate={}", rate);
      if (s.kind == ArrivalKind::constant) return std::make_unique<ConstantTimes>(rate);
      return std::make_unique<RenewalTimes>(Gap::exponential, 1, 1 / rate, seed);
    }
    case ArrivalKind::gamma: {
      FAULTLINE_ASSERT(rate > 0 && s.cv > 0, "rate={} cv={}", rate, s.cv);
      const double shape = 1 / (s.cv * s.cv);
      return std::make_unique<RenewalTimes>(Gap::gamma, shape, 1 / (rate * shape), seed);
    }
    case ArrivalKind::weibull: {
      FAULTLINE_ASSERT(rate > 0, "rate={}", rate);
      const double shape = s.shape ? *s.shape : weibull_shape_of_cv(s.cv);
      return std::make_unique<RenewalTimes>(Gap::weibull, shape, 1 / (rate * weibull_mean(shape)), seed);
    }
    case ArrivalKind::onoff: {
      FAULTLINE_ASSERT(s.rate_on >= 0 && s.rate_off >= 0 && s.rate_on + s.rate_off > 0, "on={} off={}", s.rate_on,
                       s.rate_off);
      return std::make_unique<OnOffTimes>(s, rate_scale, seed);
    }
    case ArrivalKind::diurnal: {
      FAULTLINE_ASSERT(rate > 0 && s.amplitude >= 0 && s.amplitude <= 1 && s.period.v > 0 && s.phase.v >= 0,
                       "rate={} amplitude={} period={} phase={}", rate, s.amplitude, s.period.v, s.phase.v);
      return std::make_unique<DiurnalTimes>(s, rate_scale, seed);
    }
  }
  FAULTLINE_ASSERT(false, "kind={}", static_cast<int>(s.kind));
  return nullptr;
}

}  // namespace faultline::workload
