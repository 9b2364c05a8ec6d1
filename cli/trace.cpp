// faultline trace FILE: what a request trace contains, before it is run.
#include <cstdio>
#include <memory>

#include "cli/command.h"
#include "core/workload/summary.h"

namespace faultline::cli {
namespace {

struct Options {
  workload::TraceSpec trace;
  std::string format = "detect", zero_tokens = "one";
  std::uint64_t seed = 1;
  bool json = false;
};

template <class E>
E enum_of(const std::string& name) {
  const auto names = enum_names(static_cast<const E*>(nullptr));
  for (std::size_t i = 0; i < names.size(); ++i) {
    if (names[i] == name) return static_cast<E>(i);
  }
  throw config::ConfigError("unknown name '" + name + "'\n");  // CLI11 has checked the name already
}

template <class E>
std::vector<std::string> names_of() {
  const auto names = enum_names(static_cast<const E*>(nullptr));
  return {names.begin(), names.end()};
}

int run(Options& o) {
  o.trace.format = enum_of<workload::TraceFormat>(o.format);
  o.trace.zero_tokens = enum_of<workload::ZeroTokens>(o.zero_tokens);
  config::Diagnostics diagnostics;
  const auto summary = workload::summarize_trace(o.trace, o.seed, read_file, diagnostics);
  diagnostics.throw_if_any();
  const std::string text = o.json ? to_json(*summary) : to_text(*summary);
  std::fputs(text.c_str(), stdout);
  return 0;
}

const Registration kTrace{
    {.order = 45,
     .name = "trace",
     .help = "Summarise a request trace",
     .setup = [](CLI::App& app) -> std::function<int()> {
       auto o = std::make_shared<Options>();
       app.add_option("file", o->trace.path, "Trace file (plain or gzip) or ServeGen folder")->required();
       app.add_option("--format", o->format, "Trace format")
           ->check(CLI::IsMember(names_of<workload::TraceFormat>()))
           ->capture_default_str();
       app.add_option("--zero-tokens", o->zero_tokens, "What to do with rows of 0 tokens")
           ->check(CLI::IsMember(names_of<workload::ZeroTokens>()))
           ->capture_default_str();
       app.add_option("--time-scale", o->trace.time_scale, "Factor on recorded times")
           ->check(CLI::Range(1e-6, 1e6))
           ->capture_default_str();
       app.add_option("--seed", o->seed, "Seed of drawn requests (ServeGen)")
           ->check(whole_number())
           ->capture_default_str();
       app.add_flag("--json", o->json, "Print JSON");
       return [o] { return run(*o); };
     }}};

}  // namespace
}  // namespace faultline::cli
