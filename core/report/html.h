// report.html: one file that needs nothing else. No script runs and nothing is fetched (a content security policy in
// the file says so, too); every name from an experiment or a topology is escaped.
#pragma once

#include <string>

#include "core/report/report.h"

namespace faultline::report {

/// `extra_sections`: finished HTML to stand after the charts, such as variants_html() of a sweep.
std::string html_text(const Report& report, const std::string& extra_sections = {});

/// A page of its own around finished sections.
std::string html_page(const std::string& title, const std::string& sections);

}  // namespace faultline::report
