// The style sheet of every HTML report: light, dark and print.
#pragma once

#include <string_view>

namespace faultline::report {
extern const std::string_view kStyle;
}
