// Reads whatever TraceSpec::path names: a file with rows, or a folder of ServeGen clients.
#pragma once

#include <variant>

#include "core/config/document.h"
#include "core/workload/servegen.h"
#include "core/workload/trace.h"

namespace faultline::workload {

/// monostate: errors went to the diagnostics.
using LoadedTrace = std::variant<std::monostate, Trace, ServeGenFolder>;

/// With format `detect`, a path that cannot be read as a file is tried as a folder. Reads each file once.
LoadedTrace load_trace(const TraceSpec& spec, const config::FileReader& reader, config::Diagnostics& diagnostics);

}  // namespace faultline::workload
