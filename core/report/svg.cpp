#include "core/report/svg.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "core/report/text.h"

namespace faultline::report {
namespace {

constexpr double kWidth = 860, kLeft = 62, kRight = 14;

/// One decimal is a tenth of a pixel; keeps files small.
std::string px(double v) {
  std::string s = fmt::format("{:.1f}", v);
  if (s.ends_with(".0")) s.resize(s.size() - 2);
  return s == "-0" ? "0" : s;
}

struct TimeUnit {
  double seconds;
  const char* name;
};
TimeUnit time_unit(double span_s) {
  if (span_s >= 3 * 86400) return {86400, "d"};
  if (span_s >= 3 * 3600) return {3600, "h"};
  if (span_s >= 600) return {60, "min"};
  return {1, "s"};
}

std::string tick_text(double v) {
  const std::string s = fmt::format("{:.6g}", v);
  return s.find('e') == std::string::npos && std::abs(v) >= 1000
             ? with_commas(static_cast<std::int64_t>(std::llround(v)))
             : s;
}

std::string figure(const std::string& title, const std::string& unit, const std::string& legend, double height,
                   const std::string& body) {
  return fmt::format(
      "<figure>\n<figcaption><b>{0}</b>{1}{2}</figcaption>\n"
      "<svg viewBox=\"0 0 {3} {4}\" role=\"img\" aria-label=\"{0}\">\n{5}</svg>\n</figure>\n",
      html_escape(title), unit.empty() ? "" : " <span class=\"unit\">" + html_escape(unit) + "</span>", legend,
      px(kWidth), px(height), body);
}

std::string legend_of(const std::vector<const ChartSeries*>& series, bool missing) {
  std::string out = "<span class=\"legend\">";
  for (const ChartSeries* s : series) {
    out += fmt::format("<span><i class=\"{}\"></i>{}</span>", html_escape(s->style), html_escape(s->label));
  }
  if (missing) out += "<span><i class=\"missing\"></i>missing</span>";
  return out + "</span>";
}

/// Path through the values; gaps break it.
template <class X, class Y>
std::string line_path(const ChartSeries& s, X x, Y y) {
  std::string d;
  bool pen_down = false;
  for (std::size_t i = 0; i < s.y.size(); ++i) {
    if (!s.y[i]) {
      pen_down = false;
      continue;
    }
    d += fmt::format("{}{} {}", pen_down ? "L" : "M", px(x(i)), px(y(*s.y[i])));
    pen_down = true;
  }
  return d;
}

/// Area between two curves given at every bucket.
template <class X, class Y>
std::string area_path(const std::vector<double>& low, const std::vector<double>& high, X x, Y y) {
  std::string d;
  for (std::size_t i = 0; i < high.size(); ++i) d += fmt::format("{}{} {}", i ? "L" : "M", px(x(i)), px(y(high[i])));
  for (std::size_t i = low.size(); i-- > 0;) d += fmt::format("L{} {}", px(x(i)), px(y(low[i])));
  return d + "Z";
}

double value_or_zero(const ChartSeries& s, std::size_t i) { return i < s.y.size() ? s.y[i].value_or(0) : 0; }

}  // namespace

std::vector<double> ticks(double top, int count) {
  const double raw = top / count;
  const double power = std::pow(10.0, std::floor(std::log10(raw)));
  double step = 10 * power;
  for (const double m : {1.0, 2.0, 5.0}) {
    if (m * power >= raw * 0.999999) {
      step = m * power;
      break;
    }
  }
  std::vector<double> out;
  for (int i = 0; i == 0 || out.back() < top * 0.999999; ++i) out.push_back(step * i);
  return out;
}

std::string time_chart_svg(const TimeChart& chart) {
  constexpr double kTop = 18, kBottom = 26, kHeight = 220;
  std::vector<const ChartSeries*> all;
  std::size_t buckets = 0;
  for (const auto* list : {&chart.lines, &chart.stacked}) {
    for (const ChartSeries& s : *list) {
      all.push_back(&s);
      buckets = std::max(buckets, s.y.size());
    }
  }
  if (buckets == 0) return {};
  double top = 0;
  for (const ChartSeries& s : chart.lines) {
    for (const auto& v : s.y) top = std::max(top, v.value_or(0));
  }
  for (std::size_t i = 0; i < buckets; ++i) {
    double sum = 0;
    for (const ChartSeries& s : chart.stacked) sum += value_or_zero(s, i);
    top = std::max(top, sum);
  }
  if (!(top > 0)) top = 1;
  const auto y_ticks = ticks(top, 4);
  top = y_ticks.back();
  const double span_s = static_cast<double>(buckets) * chart.bucket_s;
  const double plot_width = kWidth - kLeft - kRight, plot_height = kHeight - kTop - kBottom;
  const auto x_at = [&](double s) { return kLeft + plot_width * (s - chart.from_s) / span_s; };
  const auto x = [&](std::size_t i) { return x_at(chart.from_s + (static_cast<double>(i) + 0.5) * chart.bucket_s); };
  const auto y = [&](double v) { return kTop + plot_height * (1 - v / top); };

  std::string body;
  for (const double t : y_ticks) {
    body += fmt::format("<line class=\"grid\" x1=\"{}\" x2=\"{}\" y1=\"{}\" y2=\"{}\"/>", px(kLeft),
                        px(kWidth - kRight), px(y(t)), px(y(t)));
    body += fmt::format("<text class=\"tick\" text-anchor=\"end\" x=\"{}\" y=\"{}\">{}</text>\n", px(kLeft - 7),
                        px(y(t) + 3.5), tick_text(t));
  }
  const TimeUnit unit = time_unit(span_s);
  const double end_s = chart.from_s + span_s;
  for (const double t : ticks(end_s / unit.seconds, 8)) {
    const double s = t * unit.seconds;
    if (s < chart.from_s || s > end_s * 1.000001) continue;
    body += fmt::format("<text class=\"tick\" text-anchor=\"middle\" x=\"{}\" y=\"{}\">{} {}</text>", px(x_at(s)),
                        px(kHeight - 8), tick_text(t), unit.name);
  }
  body += '\n';

  if (!chart.stacked.empty()) {
    std::vector<double> low(buckets, 0.0);
    for (const ChartSeries& s : chart.stacked) {
      std::vector<double> high(buckets);
      for (std::size_t i = 0; i < buckets; ++i) high[i] = low[i] + value_or_zero(s, i);
      body += fmt::format("<path class=\"area {}\" d=\"{}\"/>\n", html_escape(s.style), area_path(low, high, x, y));
      low = std::move(high);
    }
  }
  const bool missing = chart.shade_missing && chart.lines.size() == 2;
  if (missing) {
    std::vector<double> low(buckets), high(buckets);
    for (std::size_t i = 0; i < buckets; ++i) {
      low[i] = value_or_zero(chart.lines[1], i);
      high[i] = std::max(low[i], value_or_zero(chart.lines[0], i));
    }
    body += fmt::format("<path class=\"area missing\" d=\"{}\"/>\n", area_path(low, high, x, y));
  }
  for (const ChartSeries& s : chart.lines) {
    body += fmt::format("<path class=\"line {}\" d=\"{}\"/>\n", html_escape(s.style), line_path(s, x, y));
  }
  double free_from = 0;
  for (const auto& marker : chart.markers) {
    if (marker.at_s < chart.from_s || marker.at_s > end_s) continue;
    const double at = x_at(marker.at_s);
    body += fmt::format("<line class=\"fault\" x1=\"{0}\" x2=\"{0}\" y1=\"{1}\" y2=\"{2}\"><title>{3}</title></line>",
                        px(at), px(kTop - 4), px(kHeight - kBottom), html_escape(marker.label));
    // Labels that would overlap stay as tooltips; those near the right edge are written to the left.
    const std::string label = fit(marker.label, std::min<std::size_t>(width_of(marker.label), 40));
    const double wide = static_cast<double>(width_of(label)) * 6.2;
    const bool leftwards = at + wide > kWidth - kRight;
    const double begin = leftwards ? at - wide - 4 : at;
    if (begin < free_from) continue;
    free_from = begin + wide + 8;
    body += fmt::format("<text class=\"fault-label\" text-anchor=\"{}\" x=\"{}\" y=\"{}\">{}</text>",
                        leftwards ? "end" : "start", px(at + (leftwards ? -4 : 4)), px(kTop - 6), html_escape(label));
  }
  return figure(chart.title, chart.unit, legend_of(all, missing), kHeight, body + "\n");
}

std::string bar_rows_svg(const std::string& title, const std::vector<BarRow>& rows) {
  if (rows.empty()) return {};
  constexpr double kRow = 22, kTextRight = 112, kLabelMost = 250;
  double longest = 0, top = 0;
  for (const BarRow& r : rows) {
    longest = std::max(longest, static_cast<double>(width_of(r.label)) * 6.6);
    top = std::max(top, r.value);
  }
  const double left = std::clamp(longest + 16, kLeft, kLabelMost), plot = kWidth - left - kTextRight;
  std::string body;
  for (std::size_t i = 0; i < rows.size(); ++i) {
    const BarRow& r = rows[i];
    const double y = static_cast<double>(i) * kRow + 4;
    const double length = top > 0 ? std::max(r.value > 0 ? 2.0 : 0.0, plot * r.value / top) : 0;
    body += fmt::format("<text class=\"row\" text-anchor=\"end\" x=\"{}\" y=\"{}\">{}<title>{}</title></text>",
                        px(left - 8), px(y + 13),
                        html_escape(fit(r.label, std::min<std::size_t>(width_of(r.label), 36))), html_escape(r.label));
    body += fmt::format("<rect class=\"{}\" x=\"{}\" y=\"{}\" width=\"{}\" height=\"14\" rx=\"2\"/>",
                        html_escape(r.style), px(left), px(y + 1), px(length));
    body += fmt::format("<text class=\"value\" x=\"{}\" y=\"{}\">{}</text>\n", px(left + length + 7), px(y + 13),
                        html_escape(r.value_text));
  }
  return figure(title, "", "", static_cast<double>(rows.size()) * kRow + 8, body);
}

std::string scatter_svg(const std::string& title, const std::string& x_label, const std::string& y_label,
                        const std::vector<ScatterPoint>& points) {
  if (points.empty()) return {};
  constexpr double kTop = 14, kBottom = 44, kHeight = 300;
  double x_top = 0, y_top = 0;
  for (const auto& p : points) {
    x_top = std::max(x_top, p.x);
    y_top = std::max(y_top, p.y);
  }
  const auto x_ticks = ticks(x_top > 0 ? x_top : 1, 6), y_ticks = ticks(y_top > 0 ? y_top : 1, 5);
  const double plot_width = kWidth - kLeft - kRight - 60, plot_height = kHeight - kTop - kBottom;
  const auto x = [&](double v) { return kLeft + plot_width * v / x_ticks.back(); };
  const auto y = [&](double v) { return kTop + plot_height * (1 - v / y_ticks.back()); };
  std::string body;
  for (const double t : y_ticks) {
    body += fmt::format("<line class=\"grid\" x1=\"{}\" x2=\"{}\" y1=\"{}\" y2=\"{}\"/>", px(kLeft),
                        px(kLeft + plot_width), px(y(t)), px(y(t)));
    body += fmt::format("<text class=\"tick\" text-anchor=\"end\" x=\"{}\" y=\"{}\">{}</text>\n", px(kLeft - 7),
                        px(y(t) + 3.5), tick_text(t));
  }
  for (const double t : x_ticks) {
    body += fmt::format("<text class=\"tick\" text-anchor=\"middle\" x=\"{}\" y=\"{}\">{}</text>", px(x(t)),
                        px(kHeight - kBottom + 16), tick_text(t));
  }
  body += fmt::format("<text class=\"row\" text-anchor=\"middle\" x=\"{}\" y=\"{}\">{}</text>\n",
                      px(kLeft + plot_width / 2), px(kHeight - 8), html_escape(x_label));
  for (const auto& p : points) {
    body += fmt::format("<circle class=\"run\" cx=\"{}\" cy=\"{}\" r=\"5\"/>", px(x(p.x)), px(y(p.y)));
    body += fmt::format("<text class=\"value\" x=\"{}\" y=\"{}\">{}</text>\n", px(x(p.x) + 9), px(y(p.y) + 4),
                        html_escape(p.label));
  }
  return figure(title, y_label, "", kHeight, body);
}

}  // namespace faultline::report
