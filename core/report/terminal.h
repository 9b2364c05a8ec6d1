// The report a person reads in a terminal: what failed, what it cost, how the service came back. Fits `columns`.
#pragma once

#include <string>

#include "core/report/report.h"

namespace faultline::report {

struct TerminalOptions {
  int columns = 80;     // at least 60
  bool colour = false;  // the caller knows whether this is a terminal
};

std::string terminal_text(const Report& report, const TerminalOptions& options = {});

}  // namespace faultline::report
