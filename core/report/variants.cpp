#include "core/report/variants.h"

#include <fmt/format.h>

#include <algorithm>

#include "core/report/cost_model.h"
#include "core/report/svg.h"
#include "core/report/text.h"

namespace faultline::report {
namespace {

struct Column {
  const char* key;
  const char* head;   // terminal
  std::size_t width;  // there, with a blank before it
  const char* title;  // HTML
  std::optional<double> VariantRow::*value;
  enum { rate, count, time } kind;
};

constexpr Column kColumns[] = {
    {"output_tokens_per_s", "out/s", 8, "output tokens/s", &VariantRow::output_tokens_per_s, Column::rate},
    {"goodput_tokens_per_s", "good/s", 8, "tokens/s within SLO", &VariantRow::goodput_tokens_per_s, Column::rate},
    {"requests_failed", "failed", 7, "requests failed", &VariantRow::failed, Column::count},
    {"requests_retried", "retried", 8, "requests retried", &VariantRow::retried, Column::count},
    {"capacity_loss_gpu_s", "GPU-s", 8, "capacity lost, GPU-s", &VariantRow::capacity_loss_gpu_s, Column::rate},
    {"t95_s", "t95", 7, "95 % of the throughput back", &VariantRow::t95_s, Column::time},
    {"restore_s", "restore", 8, "restored", &VariantRow::restore_s, Column::time},
    {"cost_per_1m_output_tokens", "cost/1M", 8, "cost per 1M output tokens", &VariantRow::cost_per_1m_output,
     Column::rate},
};

std::string cell(const VariantRow& row, const Column& column) {
  const auto& v = row.*(column.value);
  // Not "never": the run, or the time before the next fault, was too short to see it.
  if (!v) return column.kind == Column::time && !row.restored ? "not yet" : "–";
  if (column.kind == Column::time) return time_text(duration_from_seconds(*v));
  return column.kind == Column::count ? with_commas(static_cast<std::int64_t>(*v)) : number(*v);
}

/// The slowest fault's time; empty if one of them has none.
std::optional<double> slowest(const Json& summary, const char* pointer, bool& complete) {
  std::optional<double> out;
  for (const Json& fault : summary.at("faults")) {
    if (!fault.is_object() || !fault.value("applied", false) || !number_at(fault, "/blast_radius/goodput_loss_tokens"))
      continue;
    const auto v = number_at(fault, pointer);
    if (!v) complete = false;
    else out = std::max(out.value_or(0), *v);
  }
  return complete ? out : std::nullopt;
}

std::vector<BarRow> bars(const std::vector<VariantRow>& rows, const Column& column, const char* style) {
  std::vector<BarRow> out;
  for (const VariantRow& r : rows) {
    if (const auto& v = r.*(column.value)) out.push_back({r.name, cell(r, column), *v, style});
  }
  return out;
}

}  // namespace

std::vector<VariantRow> variant_rows(const std::vector<Variant>& variants) {
  std::vector<VariantRow> out;
  for (const Variant& v : variants) {
    VariantRow r;
    r.name = v.name;
    r.output_tokens_per_s = number_at(v.summary, "/throughput/output_tokens_per_s");
    r.goodput_tokens_per_s = number_at(v.summary, "/throughput/goodput_tokens_per_s");
    r.failed = number_at(v.summary, "/requests/failed");
    r.retried = number_at(v.summary, "/requests/retried");
    r.capacity_loss_gpu_s = fault_sum(v.summary, "/blast_radius/capacity_loss_gpu_s");
    r.gpus_idle_max = fault_max(v.summary, "/blast_radius/structural_gpus_max");
    r.cost_per_1m_output = number_at(v.summary, "/cost/per_1m_output_tokens");
    bool t95_complete = true, restore_complete = true;
    r.t95_s = slowest(v.summary, "/phases_s/t95", t95_complete);
    r.restore_s = slowest(v.summary, "/phases_s/restore", restore_complete);
    r.restored = t95_complete && restore_complete;
    for (const Json& fault : v.summary.at("faults")) {
      const Json* phases = fault.is_object() && fault.contains("phases_s") ? &fault["phases_s"] : nullptr;
      if (phases && phases->contains("not_restored") && (*phases)["not_restored"].is_string())
        r.not_restored = (*phases)["not_restored"].get<std::string>();
    }
    if (v.summary.contains("cost_model")) {
      r.cost_model = cost_model_text(v.summary["cost_model"]);
      r.extrapolated = extrapolated_share(v.summary["cost_model"]);
    }
    out.push_back(std::move(r));
  }
  return out;
}

std::string variants_text(const std::string& title, const std::vector<Variant>& variants) {
  constexpr std::size_t kWidth = 80;
  std::size_t name_width = kWidth;
  for (const Column& c : kColumns) name_width -= c.width;
  const auto rows = variant_rows(variants);
  std::string out =
      fit(printable(title), std::min(width_of(printable(title)), kWidth)) + "\n\n" + std::string(name_width, ' ');
  for (const Column& c : kColumns) out += fit(c.head, c.width, true);
  out += '\n';
  const auto compact = [](std::string text) {  // "2 min 05 s" does not fit a column
    for (const auto& [from, to] : {std::pair<std::string, std::string>{" min ", "m"}, {" h ", "h"}}) {
      if (const auto at = text.find(from); at != std::string::npos) text.replace(at, from.size(), to);
    }
    if (const auto at = text.find('m');
        at != std::string::npos && at + 1 < text.size() && std::isdigit(static_cast<unsigned char>(text[at + 1]))) {
      while (!text.empty() && (text.back() == 's' || text.back() == ' ')) text.pop_back();
    }
    return text;
  };
  for (const VariantRow& r : rows) {
    out += fit(printable(r.name), name_width - 1) + ' ';
    for (const Column& c : kColumns) out += ' ' + fit(compact(cell(r, c)), c.width - 1, true);
    out.erase(out.find_last_not_of(' ') + 1);
    out += '\n';
  }
  for (const VariantRow& r : rows) {
    if (!r.restored && !r.not_restored.empty()) {
      out += fit(fmt::format("{}: {}", printable(r.name), r.not_restored), kWidth);
      out.erase(out.find_last_not_of(' ') + 1);
      out += '\n';
    }
  }
  for (const VariantRow& r : rows) {
    if (r.extrapolated <= 0) continue;
    for (const std::string& line : wrapped(printable(r.name + ": " + r.cost_model), kWidth)) out += line + '\n';
  }
  for (const Column* c : {&kColumns[1], &kColumns[4]}) {
    double top = 0;
    for (const VariantRow& r : rows) top = std::max(top, (r.*(c->value)).value_or(0));
    if (!(top > 0)) continue;
    out += fmt::format("\n{}\n", c->title);
    for (const VariantRow& r : rows) {
      const double v = (r.*(c->value)).value_or(0);
      out += fit(printable(r.name), name_width - 1) + ' ' + bar(v / top, kWidth - name_width - 10) + ' ' + cell(r, *c) +
             '\n';
    }
  }
  return out;
}

Json variants_json(const std::string& title, const std::vector<Variant>& variants) {
  Json rows = Json::array();
  for (const VariantRow& r : variant_rows(variants)) {
    Json row{{"name", r.name}};
    for (const Column& c : kColumns) row[c.key] = r.*(c.value) ? Json(*(r.*(c.value))) : Json(nullptr);
    row["structural_gpus_max"] = r.gpus_idle_max ? Json(*r.gpus_idle_max) : Json(nullptr);
    row["restored"] = r.restored;
    row["cost_model"] = r.cost_model.empty() ? Json(nullptr) : Json(r.cost_model);
    row["extrapolated_share"] = r.cost_model.empty() ? Json(nullptr) : Json(r.extrapolated);
    rows.push_back(std::move(row));
  }
  return {{"title", title}, {"rows", std::move(rows)}};
}

std::string variants_html(const std::string& title, const std::vector<Variant>& variants) {
  const auto rows = variant_rows(variants);
  std::string out =
      fmt::format("<section>\n<h2>{}</h2>\n<div class=\"scroll\"><table>\n<tr><th>variant</th>", html_escape(title));
  for (const Column& c : kColumns) out += fmt::format("<th class=\"n\">{}</th>", html_escape(c.title));
  out += "</tr>\n";
  for (const VariantRow& r : rows) {
    out += fmt::format("<tr><td>{}</td>", html_escape(r.name));
    for (const Column& c : kColumns) out += fmt::format("<td class=\"n\">{}</td>", html_escape(cell(r, c)));
    out += "</tr>\n";
  }
  out += "</table></div>\n";
  for (const VariantRow& r : rows) {
    if (!r.cost_model.empty())
      out += fmt::format("<p class=\"soft\">{}: {}</p>\n", html_escape(r.name), html_escape(r.cost_model));
  }
  out += bar_rows_svg("Tokens/s within SLO", bars(rows, kColumns[1], "run"));
  out += bar_rows_svg("Capacity lost to the fault, GPU-s", bars(rows, kColumns[4], "collateral"));
  out += bar_rows_svg("Time until restored", bars(rows, kColumns[6], "paired"));
  std::vector<ScatterPoint> points;
  for (const VariantRow& r : rows) {
    if (r.goodput_tokens_per_s && r.capacity_loss_gpu_s)
      points.push_back({r.name, *r.goodput_tokens_per_s, *r.capacity_loss_gpu_s});
  }
  out += scatter_svg("Throughput against blast radius", "tokens/s within SLO", "capacity lost, GPU-s", points);
  return out + "</section>\n";
}

}  // namespace faultline::report
