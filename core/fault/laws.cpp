#include "core/fault/laws.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>

#include "core/base/assert.h"
#include "core/base/hash.h"
#include "core/base/math.h"

namespace faultline::fault {

double draw_life_s(Random& random, const LifeLaw& law, double mean_s) {
  FAULTLINE_ASSERT(mean_s > 0, "mean={}", mean_s);
  if (law.distribution == GapDistribution::exponential) return random.exponential(mean_s);
  // Mean of a Weibull: scale * Gamma(1 + 1/shape).
  return random.weibull(law.shape, mean_s / stable::exp(stable::lgamma(1 + 1 / law.shape)));
}

void describe(config::Fields& f, RepairLaw& s) {
  f.required("mean", s.mean, config::kPositive);
  f.field("spread", s.spread, {.min = 0, .max = 5});
}

Duration draw_repair(Random& random, const RepairLaw& law) {
  if (law.mean == kForever || law.spread == 0) return law.mean;
  // Mean of a lognormal: exp(mu + sigma^2 / 2).
  const double mu = stable::log(seconds(law.mean)) - law.spread * law.spread / 2;
  return std::max(Duration{1}, duration_from_seconds(random.lognormal(mu, law.spread)));
}

void describe(config::Fields& f, Lemons& s) {
  f.field("share", s.share, {.min = 0, .max = 0.5});
  f.field("factor", s.factor, {.min = 1, .max = 1e6});
  f.field("tail", s.tail, {.min = 1.05, .max = 100});
}

double frailty(const Lemons& lemons, std::uint64_t seed, std::string_view source, std::uint64_t unit) {
  if (lemons.share == 0) return 1;
  Random random(seed, "fault/lemon", hash_text(source), unit);
  const double mean = 1 - lemons.share + lemons.share * lemons.factor * lemons.tail / (lemons.tail - 1);
  if (!random.chance(lemons.share)) return 1 / mean;
  return lemons.factor * stable::pow(random.uniform_open(), -1 / lemons.tail) / mean;
}

void describe(config::Fields& f, CommonCause& s) {
  f.required("group", s.group);
  f.required("share", s.share, config::kRatio);
}

void describe(config::Fields& f, ChainLink& s) {
  f.required("kind", s.kind);
  f.required("probability", s.probability, config::kRatio);
  f.field("delay", s.delay, config::kNotNegative);
  if (f.reading() ? f.has("repair") : s.repair.mean != kForever) f.object("repair", s.repair);
  if (f.reading() || s.factor != 0)
    f.field("factor", s.factor, {.min = std::numeric_limits<double>::min(), .max = 1e6});
  if (f.reading() || s.loss != 0) f.field("loss", s.loss, {.min = std::numeric_limits<double>::min(), .max = 0.999});
  if (!f.reading() || !f.has("kind")) return;
  const Parameters takes = info(s.kind).parameters;
  const bool factor = takes == Parameters::slowdown || takes == Parameters::share;
  if (takes != Parameters::none && !factor && takes != Parameters::loss) {
    f.error("kind", fmt::format("{} cannot be the end of a chain", name_of(s.kind)),
            "it takes more than a factor or a loss");
  }
  if (factor != (s.factor != 0))
    f.error("kind", fmt::format("{} {} 'factor'", name_of(s.kind), factor ? "needs" : "takes no"));
  if ((takes == Parameters::loss) != (s.loss != 0)) {
    f.error("kind", fmt::format("{} {} 'loss'", name_of(s.kind), takes == Parameters::loss ? "needs" : "takes no"));
  }
}

void describe(config::Fields& f, Repeat& s) {
  f.required("probability", s.probability, {.min = 0, .max = 0.99});
  f.required("within", s.within, config::kPositive);
}

}  // namespace faultline::fault
