#include "core/report/requests_jsonl.h"

#include <nlohmann/json.hpp>

#include <bit>
#include <charconv>

#include "core/metrics/request.h"

namespace faultline::report {
namespace {

std::string quoted(const std::string& text) {
  return nlohmann::json(text).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

/// A cursor into a buffer that is large enough for the fixed part of any line.
struct Cursor {
  char* at;
  void text(std::string_view s) { at = std::copy(s.begin(), s.end(), at); }
  void integer(std::int64_t v) { at = std::to_chars(at, at + 20, v).ptr; }
  /// Nanoseconds as seconds with nine digits.
  void time(std::int64_t ns) {
    if (ns < 0) {
      *at++ = '-';
      ns = -ns;
    }
    integer(ns / 1'000'000'000);
    *at++ = '.';
    auto fraction = static_cast<std::uint32_t>(ns % 1'000'000'000);
    for (int i = 8; i >= 0; --i) {
      at[i] = static_cast<char>('0' + fraction % 10);
      fraction /= 10;
    }
    at += 9;
  }
  void time_or_null(Instant t) {
    if (t == kNever) text("null");
    else time(t.ns);
  }
  void time_or_null(std::optional<Duration> d) {
    if (d) time(d->v);
    else text("null");
  }
};

constexpr std::size_t kFixedMax = 640;  // keys (about 230 bytes), 15 numbers of at most 21 bytes, outcome and cause

}  // namespace

RequestLines::RequestLines(const record::RunRecord& run) : run_(run) {
  for (const auto& name : run.slo_class_names) classes_.push_back(quoted(name));
  for (const auto& fault : run.faults) faults_.push_back(quoted(fault.id));
}

void RequestLines::append(std::string& out, std::size_t id) const {
  const record::RequestRecord& r = run_.requests[id];
  char buffer[kFixedMax];
  Cursor c{buffer};
  c.text("{\"id\":");
  c.integer(static_cast<std::int64_t>(id));
  c.text(",\"arrival_s\":");
  c.time_or_null(r.arrival);
  c.text(",\"prompt_tokens\":");
  c.integer(r.prompt_tokens);
  c.text(",\"output_tokens\":");
  c.integer(r.output_tokens);
  c.text(",\"delivered_tokens\":");
  c.integer(r.output_delivered);
  c.text(",\"instance\":");
  if (r.instance.valid()) c.integer(r.instance.v);
  else c.text("null");
  c.text(",\"ttft_s\":");
  c.time_or_null(metrics::ttft(r));
  c.text(",\"tpot_s\":");
  c.time_or_null(metrics::tpot(r));
  c.text(",\"end_s\":");
  c.time_or_null(r.end);
  c.text(",\"outcome\":\"");
  c.text(record::kOutcomeNames[static_cast<std::size_t>(r.outcome)]);
  c.text("\",\"cause\":\"");
  c.text(name_of(r.cause));
  c.text("\",\"attempts\":");
  c.integer(r.attempts);
  c.text(",\"tokens_recomputed\":");
  c.integer(r.tokens_recomputed);
  c.text(",\"tokens_lost\":");
  c.integer(r.tokens_lost);
  c.text(metrics::met_slo(run_, r) ? ",\"slo_met\":true" : ",\"slo_met\":false");
  out.append(buffer, static_cast<std::size_t>(c.at - buffer));
  if (r.slo_class < classes_.size()) {
    out += ",\"slo\":";
    out += classes_[r.slo_class];
  }
  out += ",\"hit\":[";
  bool first = true;
  for (std::uint64_t bits = r.hit_by; bits != 0; bits &= bits - 1) {
    const auto fault = static_cast<std::size_t>(std::countr_zero(bits));
    if (!first) out += ',';
    first = false;
    // The last bit may stand for several faults: it names the first of them.
    if (fault < faults_.size()) out += faults_[fault];
    else out += "null";
  }
  out += "]}\n";
}

std::string requests_jsonl(const record::RunRecord& run) {
  const RequestLines lines(run);
  std::string out;
  out.reserve(run.requests.size() * 320);
  for (std::size_t id = 0; id < run.requests.size(); ++id) lines.append(out, id);
  return out;
}

}  // namespace faultline::report
