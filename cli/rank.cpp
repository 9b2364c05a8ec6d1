// faultline rank: components by what their failures cost in a month, and the cheapest fix for each.
#include <fmt/format.h>

#include "cli/fluid_run.h"
#include "cli/profiles.h"
#include "core/experiment/fleets.h"
#include "core/plan/rank.h"
#include "core/report/cost_model.h"
#include "core/report/text.h"

namespace faultline::cli {
namespace {

struct Options {
  ExperimentOptions experiment;
  std::vector<std::string> profiles{"ibm-vela", "llama3-h100", "rsc1-a100-small"};
  std::string prices, state;
  std::int64_t samples = 12, rows = 12;
  bool json = false;
};

std::string interval(const plan::Interval& i) {
  const auto n = [](double v) { return report::number(v); };
  return fmt::format("{} [{}, {}]", n(i.mean), n(i.low), n(i.high));
}

/// Within 80 columns.
void print_lines(std::size_t indent, const std::string& text) {
  for (const std::string& line : report::wrapped(text, 80 - indent)) fmt::print("{:{}}{}\n", "", indent, line);
}

int run(const Options& o) {
  const experiment::ExperimentSpec spec = load_experiment(o.experiment).spec;
  experiment::needs_one_fleet(spec, "faultline rank");
  const auto profiles = load_profiles(o.profiles);
  const fluid::Prices prices = load_prices(o.prices, spec);
  fluid::Load load = fluid::load_of(spec, read_text);
  plan::RankOptions options;
  options.samples = o.samples;
  std::optional<fluid::StartState> state;
  if (!o.state.empty()) {
    state = fluid::load_state(must_read_file(o.state), o.state, *experiment::deploy(spec));
    options.state = &*state;
    if (state->load) load.rate = *state->load;
  }
  const auto deployment = experiment::deploy(spec);
  const auto cost_model =
      report::cost_model_json(fluid::cost_model_of(spec, *deployment, fluid::capacity_of(spec, *deployment, load)));
  nlohmann::ordered_json out{
      {"experiment", spec.name}, {"currency", prices.currency}, {"profiles", nlohmann::ordered_json::array()}};
  std::vector<std::string> first;
  if (!o.json)
    fmt::print("Means and 95 % intervals over {} simulated failures a row; the costliest first.\n\n", o.samples);
  for (const fault::RateProfile& profile : profiles) {
    std::vector<std::string> skipped;
    const auto rows = plan::rank(spec, profile, prices, load, options, skipped);
    if (!rows.empty()) first.push_back(rows.front().per);
    nlohmann::ordered_json list = nlohmann::ordered_json::array();
    for (const plan::RankRow& r : rows) list.push_back(plan::to_json(r));
    out["profiles"].push_back({{"profile", profile.name}, {"rows", list}, {"skipped", skipped}});
    if (o.json) continue;
    fmt::print("{}── {} under {}, a month\n", &profile == &profiles.front() ? "" : "\n", spec.name, profile.name);
    print_lines(0, profile.borrowed_from);
    for (std::size_t k = 0; k < rows.size() && k < static_cast<std::size_t>(o.rows); ++k) {
      const plan::RankRow& r = rows[k];
      fmt::print("{}, {}: {} failures a month\n", r.component, r.source, report::number(r.events_per_month));
      fmt::print("    cost  {} {}\n", interval(r.money), prices.currency);
      fmt::print("    lost  {} tokens within the SLO\n", interval(r.goodput_tokens));
      fmt::print("    late  {} requests failed or late\n", interval(r.failed));
      if (r.fixes.empty()) {
        fmt::print("    fix   none of those tried pays\n");
      } else {
        const auto& fix = r.fixes.front();
        print_lines(4, fmt::format("fix   {}: saves {} for {}", fix.name, report::number(fix.saves),
                                   report::number(fix.per_month)));
      }
    }
    if (rows.size() > static_cast<std::size_t>(o.rows))
      fmt::print("{} more rows: --rows\n", rows.size() - static_cast<std::size_t>(o.rows));
    const auto missing = fault::not_covered(profile);
    for (const std::string& s : skipped) fmt::print("not ranked: {}\n", s);
    if (!missing.empty()) {
      std::string text;
      for (const fault::Covers c : missing)
        text += fmt::format("{}{}", text.empty() ? "" : ", ",
                            enum_names(static_cast<const fault::Covers*>(nullptr))[static_cast<std::size_t>(c)]);
      fmt::print("not in this profile: {}\n", text);
    }
  }
  const bool same = std::all_of(first.begin(), first.end(), [&](const std::string& s) { return s == first.front(); });
  out["same_first"] = same;
  out["cost_model"] = cost_model;
  if (!o.json) fmt::print("\nprices: {}\n", report::cost_model_text(cost_model));
  if (o.json) fmt::print("{}\n", out.dump(2));
  else if (first.size() > 1)
    fmt::print("\n{}\n", same ? fmt::format("A {} comes first under every profile.", first.front())
                              : "What comes first depends on the rate profile: there is no single answer.");
  return 0;
}

const Registration kRank{{.order = 21,
                          .name = "rank",
                          .help = "Components by what their failures cost in a month, with the cheapest fix",
                          .setup = [](CLI::App& app) {
                            auto o = std::make_shared<Options>();
                            add_experiment_options(app, o->experiment);
                            add_profiles_option(app, o->profiles);
                            add_prices_option(app, o->prices);
                            app.add_option("--state", o->state, "Start from this state of the fleet");
                            app.add_option("--samples", o->samples, "Strikes simulated a row")
                                ->check(CLI::Range(2, 100'000))
                                ->capture_default_str();
                            app.add_option("--rows", o->rows, "Rows shown of each profile")
                                ->check(CLI::Range(1, 1'000'000))
                                ->capture_default_str();
                            app.add_flag("--json", o->json, "Print JSON");
                            return [o] { return run(*o); };
                          }}};

}  // namespace
}  // namespace faultline::cli
