// Charts as inline SVG: no script, no external resource, colours by CSS classes so that light, dark and print differ
// only in the page's style sheet. Every text is escaped here.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "core/base/quantity.h"

namespace faultline::report {

struct ChartSeries {
  std::string label;
  std::string style;                     // CSS class: "run", "paired", "own", "collateral"
  std::vector<std::optional<double>> y;  // one value a bucket, empty = gap
};

/// Values over simulated time. Bucket i covers [from_s + i * bucket_s, … + bucket_s).
struct TimeChart {
  std::string title, unit;
  double from_s = 0, bucket_s = 1;
  std::vector<ChartSeries> lines;    // drawn in order; the last is on top
  std::vector<ChartSeries> stacked;  // areas, from the axis up
  bool shade_missing = false;        // two lines, paired first: shades where the second is below the first
  struct Marker {
    double at_s;
    std::string label;
  };
  std::vector<Marker> markers;  // vertical lines: faults
};

/// A <figure> with its caption, legend and an accessible title.
std::string time_chart_svg(const TimeChart& chart);

struct BarRow {
  std::string label, value_text;
  double value = 0;
  std::string style = "run";
};
/// Horizontal bars from 0, values printed at their ends: phases of a recovery, variants of a sweep.
std::string bar_rows_svg(const std::string& title, const std::vector<BarRow>& rows);

/// Points with labels in a plane, for a trade-off between two figures; smaller or larger is better is the caption's
/// matter.
struct ScatterPoint {
  std::string label;
  double x = 0, y = 0;
};
std::string scatter_svg(const std::string& title, const std::string& x_label, const std::string& y_label,
                        const std::vector<ScatterPoint>& points);

/// Round steps (1, 2 or 5 times a power of ten) from 0 to at least `top`; about `count` of them. top > 0.
std::vector<double> ticks(double top, int count);

}  // namespace faultline::report
