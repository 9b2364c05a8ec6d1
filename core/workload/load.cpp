#include "core/workload/load.h"

namespace faultline::workload {

LoadedTrace load_trace(const TraceSpec& spec, const config::FileReader& reader, config::Diagnostics& diagnostics) {
  if (spec.format != TraceFormat::servegen) {
    auto text = reader ? reader(spec.path) : std::nullopt;
    if (text || spec.format != TraceFormat::detect) {
      auto trace = read_trace(
          spec, [&](const std::string&) { return std::move(text); }, diagnostics);
      return trace ? LoadedTrace(*std::move(trace)) : LoadedTrace();
    }
  }
  auto folder = read_servegen(spec, reader, diagnostics);
  return folder ? LoadedTrace(*std::move(folder)) : LoadedTrace();
}

}  // namespace faultline::workload
