// faultline sweep: one experiment under many settings and seeds, over the cores of this machine or a job's; resumable.
#include "cli/sweep.h"

#include <fmt/format.h>

#include <cmath>

#include "cli/command.h"
#include "core/report/cost_model.h"

namespace faultline::cli {
namespace {

std::string interval(const experiment::Estimate& e) {
  if (e.count == 0) return "–";
  if (e.mean == 0 && e.half_width == 0) return "0";
  const double size = std::abs(e.mean);
  const int digits = size >= 1000 ? 0 : size >= 10 ? 1 : size >= 1 ? 2 : 5;
  if (e.mean != 0 && size < 1e-3) {
    return std::isfinite(e.half_width) ? fmt::format("{:.3g} ±{:.2g}", e.mean, e.half_width)
                                       : fmt::format("{:.3g}", e.mean);
  }
  if (!std::isfinite(e.half_width)) return fmt::format("{:.{}f}", e.mean, digits);
  return fmt::format("{:.{}f} ±{:.{}f}", e.mean, digits, e.half_width, digits);
}

nlohmann::ordered_json json_of(const experiment::Estimate& e) {
  return {{"count", e.count},
          {"mean", e.count ? nlohmann::json(e.mean) : nlohmann::json()},
          {"half_width_95", std::isfinite(e.half_width) ? nlohmann::json(e.half_width) : nlohmann::json()}};
}

}  // namespace

/// The same seed draws the same arrivals and faults at every point, so differences are taken seed by seed.
void Sweep::print(std::int64_t seeds) const {
  nlohmann::ordered_json result{{"sweep", sweep_.name},
                                {"experiment", sweep_.experiment},
                                {"seeds", seeds},
                                {"computed", done_},
                                {"kept", there_},
                                {"baseline", sweep_.points[baseline_].name},
                                {"points", nlohmann::json::array()}};
  const bool compares = sweep_.points.size() > 1;
  if (!o_.json) {
    fmt::print("{}: {} points, {} seeds; means with 95 % intervals over seeds{}\n", sweep_.name, sweep_.points.size(),
               seeds, variants_ > 1 ? ", weighted: rare faults were drawn" : "");
    if (compares) fmt::print("right: difference to '{}', seed by seed\n", sweep_.points[baseline_].name);
  }
  std::vector<decltype(values(0, 0))> base;  // by seed
  for (std::int64_t s = 0; s < seeds && compares; ++s) base.push_back(values(baseline_, s));
  for (std::size_t p = 0; p < sweep_.points.size(); ++p) {
    std::vector<std::vector<double>> of_figure(figures().size()), difference(figures().size());
    std::int64_t count = 0;
    nlohmann::ordered_json cost_model;  // of the point's replica with the most extrapolated time
    for (std::int64_t s = 0; s < seeds; ++s) {
      const auto v = values(p, s, &cost_model);
      if (!v) continue;
      ++count;
      for (std::size_t f = 0; f < of_figure.size(); ++f) {
        if (!(*v)[f]) continue;
        of_figure[f].push_back(*(*v)[f]);
        if (!compares || p == baseline_ || !base[static_cast<std::size_t>(s)]) continue;
        if (const auto& other = (*base[static_cast<std::size_t>(s)])[f]) difference[f].push_back(*(*v)[f] - *other);
      }
    }
    nlohmann::ordered_json row{{"point", sweep_.points[p].name}, {"replicas", count}};
    if (!o_.json) fmt::print("\n{}  ({} replicas)\n", sweep_.points[p].name, count);
    for (std::size_t f = 0; f < of_figure.size(); ++f) {
      const experiment::Estimate e = experiment::estimate(of_figure[f]);
      row[figures()[f].name] = json_of(e);
      const experiment::Estimate d = experiment::estimate(difference[f]);
      if (compares && p != baseline_) row[figures()[f].name]["difference"] = json_of(d);
      if (o_.json || (e.count == 0 && f >= 5)) continue;
      fmt::print("  {:<14} {:>24}{}\n", figures()[f].name, interval(e),
                 d.count > 0 ? fmt::format(" {:>26}", (d.mean > 0 ? "+" : "") + interval(d)) : "");
    }
    row["cost_model"] = cost_model;
    if (!o_.json && report::extrapolated_share(cost_model) > 0)
      fmt::print("  {}\n", report::cost_model_text(cost_model));
    result["points"].push_back(row);
  }
  if (o_.json) fmt::print("{}\n", result.dump(2));
  else fmt::print("\nwritten     {} ({} replicas, {} of them were there already)\n", out_, done_ + there_, there_);
}

namespace {

const Registration kSweep{
    {.order = 15,
     .name = "sweep",
     .help = "Run an experiment under many settings and seeds; resumable",
     .setup = [](CLI::App& app) {
       auto o = std::make_shared<SweepOptions>();
       app.add_option("sweep", o->file, "Sweep or experiment file (YAML)")->required();
       app.add_option("--over", o->over, "An axis: --over 'fleet.instances=[2, 4, 8]' (repeatable)")
           ->allow_extra_args(false)
           ->take_all();
       app.add_option("--set", o->set, "Set a field in every point (repeatable)")->allow_extra_args(false)->take_all();
       app.add_option("--seeds", o->seeds, "Replicas of each point")->check(CLI::Range(1, 10'000'000));
       app.add_option("--stop-within", o->stop_within,
                      "Add seeds until the figure's 95 % interval is within this share of its mean, such as 0.05")
           ->check(CLI::Range(1e-4, 10.0))
           ->excludes("--seeds");
       app.add_option("--baseline", o->baseline, "The point that others are compared with (default: the first)");
       app.add_option("--figure", o->figure, "The figure of --stop-within")->needs("--stop-within");
       app.add_option("--least", o->rule.least, "Seeds before --stop-within may stop")->check(CLI::Range(2, 100'000));
       app.add_option("--most", o->rule.most, "Seeds at which --stop-within gives up")
           ->check(CLI::Range(2, 10'000'000));
       app.add_flag_callback(
           "--rare", [o] { o->set.push_back("sampling={draw: given_a_fault}"); },
           "Draw only runs that random faults strike, and weigh them: --set sampling={draw: given_a_fault}");
       app.add_option("--jobs,-j", o->jobs, "Replicas at a time (default: the cores)")->check(CLI::Range(1, 4096));
       app.add_option("--out", o->out, "Results file (SQLite; default: out/<name>.sqlite)");
       app.add_flag("--json", o->json, "Print JSON instead of the table");
       app.add_flag("--quiet,-q", o->quiet, "No progress");
       return [o] {
         if (o->stop_within) o->rule.relative_half_width = *o->stop_within;
         return Sweep(*o).run();
       };
     }}};

}  // namespace
}  // namespace faultline::cli
