// Profiles, streamed: PyTorch Kineto / Chrome trace JSON and rocprofv3 JSON by a SAX parser (nothing is kept but the
// event being read), rocprofv3 CSV by column name. A 1 GB trace needs no more memory than a small one.
#include <fmt/format.h>

#include <cmath>
#include <map>
#include <nlohmann/json.hpp>
#include <vector>

#include "core/calibration/delimited.h"
#include "core/calibration/importers.h"
#include "core/calibration/placed_input.h"

namespace faultline::calibration {
namespace {

// Accepts events of one device. A second device without a choice is an error, told once.
class OneDevice {
 public:
  OneDevice(std::string wanted, workload::RowErrors& errors) : wanted_(std::move(wanted)), errors_(errors) {}
  bool keeps(std::string_view device, PlacedInput::Place at, const std::string& place) {
    if (!wanted_.empty()) return device == wanted_;
    if (!any_) {
      first_ = std::string(device);
      any_ = true;
    }
    if (device == first_) return true;
    if (!reported_)
      errors_.at(at.line, at.column,
                 fmt::format("{}mixed devices: an event of device '{}' after events of '{}'", place, device, first_),
                 "choose one with --device, for example --device \"" + first_ + "\"");
    reported_ = true;
    return false;
  }

 private:
  std::string wanted_, first_;
  workload::RowErrors& errors_;
  bool any_ = false, reported_ = false;
};

// Common part of the two SAX readers: a stack of keys. Subclasses see scalars with their path's depth and last key.
class Sax : public nlohmann::json_sax<nlohmann::json> {
 public:
  Sax(PlacedInput& input, workload::RowErrors& errors) : errors_(errors), input_(input) {}

  bool null() final { return after_value(); }
  bool boolean(bool) final { return after_value(); }
  bool number_integer(number_integer_t v) final { return number(static_cast<double>(v), v); }
  bool number_unsigned(number_unsigned_t v) final {
    return number(static_cast<double>(v), static_cast<std::int64_t>(v));
  }
  bool number_float(number_float_t v, const string_t&) final {
    return number(v, std::isfinite(v) && std::abs(v) < 9e18 ? std::llround(v) : 0);
  }
  bool string(string_t& v) final {
    on_string(v);
    return after_value();
  }
  bool binary(binary_t&) final { return after_value(); }
  bool start_object(std::size_t) final {
    enter(false);
    on_start_object();
    return stack_.size() < 512;
  }
  bool end_object() final {
    on_end_object();
    return leave();
  }
  bool start_array(std::size_t) final {
    enter(true);
    return stack_.size() < 512;
  }
  bool end_array() final { return leave(); }
  bool key(string_t& v) final {
    stack_.back().key.assign(v);
    return true;
  }
  bool parse_error(std::size_t position, const std::string& last, const nlohmann::json::exception& e) final {
    const std::string_view what = e.what();
    // nlohmann's text says line and column; pass them on as the place of the error.
    int line = 0, column = 0;
    if (const auto at = what.find("line "); at != std::string_view::npos) {
      line = std::atoi(what.data() + at + 5);
      if (const auto c = what.find("column ", at); c != std::string_view::npos) column = std::atoi(what.data() + c + 7);
    }
    const bool cut_off = what.find("unexpected end of input") != std::string_view::npos || last.empty();
    errors_.at(line, column, fmt::format("{} at byte {}", cut_off ? "the JSON is cut off" : "not valid JSON", position),
               std::string(what));
    failed_ = true;
    return false;
  }
  bool failed() const { return failed_; }

 protected:
  struct Level {
    bool array = false;
    std::int64_t index = -1;  // of the element being read, in an array
    std::string key;          // of the member being read, in an object
  };
  std::size_t depth() const { return stack_.size(); }
  const Level& level(std::size_t i) const { return stack_[i]; }
  const std::string& key_at(std::size_t i) const { return stack_[i].key; }
  virtual void on_start_object() {}
  virtual void on_end_object() {}
  virtual void on_string(const std::string&) {}
  virtual void on_number(double, std::int64_t) {}

  /// Of the opening brace, from on_start_object().
  PlacedInput::Place here() { return input_.here(); }

  workload::RowErrors& errors_;

 private:
  PlacedInput& input_;
  void enter(bool array) {
    if (!stack_.empty() && stack_.back().array) ++stack_.back().index;
    stack_.push_back({array, -1, {}});
  }
  bool leave() {
    stack_.pop_back();
    return true;
  }
  bool after_value() { return true; }
  bool number(double v, std::int64_t whole) {
    on_number(v, whole);
    return after_value();
  }
  std::vector<Level> stack_;
  bool failed_ = false;
};

class Kineto final : public Sax {
 public:
  Kineto(PlacedInput& input, const ImportOptions& options, GpuEventSink& sink, workload::RowErrors& errors)
      : Sax(input, errors), device_(options.device, errors), sink_(sink) {}
  bool saw_events() const { return saw_; }

 private:
  // Either {"traceEvents": [ {...} ]} or the older bare array [ {...} ].
  std::size_t event_depth() const { return depth() >= 1 && level(0).array ? 2 : 3; }
  bool in_events() const { return level(0).array || (depth() >= 2 && key_at(0) == "traceEvents" && level(1).array); }
  bool at_event() const { return depth() == event_depth() && in_events(); }
  bool at_args() const { return depth() == event_depth() + 1 && in_events() && key_at(depth() - 2) == "args"; }

  void on_start_object() override {
    if (!at_event()) return;
    saw_ = true;
    event_ = {};
    index_ = level(depth() - 2).index;
    begins_ = here();
  }
  void on_string(const std::string& v) override {
    if (at_event()) {
      const std::string& k = key_at(depth() - 1);
      if (k == "name") event_.name = v;
      else if (k == "cat") event_.category = v;
      else if (k == "ph") event_.phase = v;
      else if (k == "pid") event_.process = v;
      else if (k == "dur" || k == "ts") event_.bad = k + " is a text";
    } else if (at_args()) {
      const std::string& k = key_at(depth() - 1);
      if (k == "stream") event_.stream = v;
      else if (k == "device") event_.device = v;
    }
  }
  void on_number(double v, std::int64_t whole) override {
    if (at_event()) {
      const std::string& k = key_at(depth() - 1);
      if (k == "ts") event_.ts = v;
      else if (k == "dur") {
        event_.dur = v;
        event_.has_dur = true;
      } else if (k == "pid") event_.process = std::to_string(whole);
    } else if (at_args()) {
      const std::string& k = key_at(depth() - 1);
      if (k == "stream") event_.stream = std::to_string(whole);
      else if (k == "device") event_.device = std::to_string(whole);
    }
  }
  void on_end_object() override {
    if (!at_event() || event_.phase != "X") return;
    if (event_.category != "kernel" && event_.category != "gpu_memcpy" && event_.category != "gpu_memset") return;
    const std::string place = fmt::format("traceEvents[{}]: ", index_);
    const std::string& device = event_.device.empty() ? event_.process : event_.device;
    if (!device_.keeps(device, begins_, place)) return;
    if (!event_.bad.empty() || !event_.has_dur || !std::isfinite(event_.dur) || event_.dur < 0 || event_.dur > 3.6e9) {
      errors_.at(begins_.line, begins_.column,
                 place + (!event_.bad.empty() ? event_.bad
                          : event_.has_dur    ? fmt::format("dur is {} us", event_.dur)
                                              : "dur is missing"),
                 "a GPU event needs a duration of 0 to 3.6e9 us");
      return;
    }
    sink_.event({.name = event_.name,
                 .category = event_.category,
                 .start_ns = static_cast<std::int64_t>(event_.ts * 1e3),
                 .duration_ns = std::llround(event_.dur * 1e3),
                 .stream = event_.stream,
                 .device = device});
  }

  struct Event {
    std::string name, category, phase, process, stream, device, bad;
    double ts = 0, dur = 0;
    bool has_dur = false;
  };
  OneDevice device_;
  GpuEventSink& sink_;
  Event event_;
  std::int64_t index_ = 0;
  PlacedInput::Place begins_;
  bool saw_ = false;
};

class RocprofJson final : public Sax {
 public:
  RocprofJson(PlacedInput& input, const ImportOptions& options, GpuEventSink& sink, workload::RowErrors& errors)
      : Sax(input, errors), device_(options.device, errors), sink_(sink) {}
  bool saw_events() const { return saw_; }

 private:
  // rocprofiler-sdk-tool [ { kernel_symbols: [ {...} ], buffer_records: { kernel_dispatch: [ {...} ] } } ]
  // depth:  0 root, 1 array, 2 tool, 3 section, 4 record of a symbol or records' array, 5 dispatch, 6 dispatch_info, 7
  // ids
  bool in_symbol() const { return depth() >= 5 && key_at(2) == "kernel_symbols" && level(3).array; }
  bool in_record() const {
    return depth() >= 6 && key_at(2) == "buffer_records" &&
           (key_at(3) == "kernel_dispatch" || key_at(3) == "memory_copy");
  }
  void on_start_object() override {
    if (in_symbol() && depth() == 5) symbol_ = {};
    if (in_record() && depth() == 6) {
      record_ = {};
      index_ = level(4).index;
      begins_ = here();
      saw_ = true;
    }
  }
  void on_string(const std::string& v) override {
    if (!in_symbol() || depth() != 5) return;
    const std::string& k = key_at(4);
    if (k == "formatted_kernel_name") symbol_.formatted = v;
    else if (k == "kernel_name") symbol_.name = v;
  }
  void on_number(double, std::int64_t v) override {
    if (in_symbol() && depth() == 5 && key_at(4) == "kernel_id") symbol_.id = v;
    if (!in_record()) return;
    const std::string& k = key_at(depth() - 1);
    if (depth() == 6 && k == "start_timestamp") record_.start = v;
    else if (depth() == 6 && k == "end_timestamp") record_.end = v;
    else if (depth() == 7 && k == "kernel_id") record_.kernel = v;
    else if (k == "handle" && depth() == 8 && key_at(6) == "agent_id") record_.agent = v;
    else if (k == "handle" && depth() == 7 && key_at(5) == "stream_id") record_.stream = v;
    else if (k == "handle" && depth() == 7 && key_at(5) == "dst_agent_id") record_.agent = v;
  }
  void on_end_object() override {
    if (in_symbol() && depth() == 5) names_[symbol_.id] = symbol_.formatted.empty() ? symbol_.name : symbol_.formatted;
    if (!in_record() || depth() != 6) return;
    const bool copy = key_at(3) == "memory_copy";
    const std::string place = fmt::format("{}[{}]: ", key_at(3), index_);
    const std::string agent = std::to_string(record_.agent);
    if (!copy && !device_.keeps(agent, begins_, place)) return;
    if (record_.start < 0 || record_.end < record_.start) {
      errors_.at(begins_.line, begins_.column,
                 place + fmt::format("it ends at {} before it starts at {}", record_.end, record_.start));
      return;
    }
    const auto name = names_.find(record_.kernel);
    if (!copy && name == names_.end()) {
      errors_.at(begins_.line, begins_.column,
                 place + fmt::format("kernel {} has no entry in kernel_symbols", record_.kernel));
      return;
    }
    const std::string stream = std::to_string(record_.stream);
    sink_.event({.name = copy ? std::string_view("memory copy") : std::string_view(name->second),
                 .category = copy ? "gpu_memcpy" : "kernel",
                 .start_ns = record_.start,
                 .duration_ns = record_.end - record_.start,
                 .stream = stream,
                 .device = agent});
  }

  struct Symbol {
    std::int64_t id = -1;
    std::string name, formatted;
  };
  struct Record {
    std::int64_t start = -1, end = -1, kernel = -1, agent = -1, stream = 0;
  };
  OneDevice device_;
  GpuEventSink& sink_;
  Symbol symbol_;
  Record record_;
  std::map<std::int64_t, std::string> names_;
  std::int64_t index_ = 0;
  PlacedInput::Place begins_;
  bool saw_ = false;
};

void rocprof_csv(std::istream& in, const ImportOptions& options, GpuEventSink& sink, workload::RowErrors& errors) {
  Delimited csv(in, errors);
  if (!csv.require({"Kernel_Name", "Start_Timestamp", "End_Timestamp", "Agent_Id"})) return;
  OneDevice device(options.device, errors);
  std::int64_t rows = 0;
  while (csv.next()) {
    const std::string agent(csv.text("Agent_Id"));
    if (!device.keeps(agent, {csv.line(), 1}, "")) continue;
    const auto start = csv.number("Start_Timestamp", 0, 9.2e18), end = csv.number("End_Timestamp", 0, 9.2e18);
    if (!start || !end) continue;
    // The values need 64-bit integers: a double is exact to 2^53 ns only (104 days of uptime).
    const auto whole = [&](std::string_view column) {
      return std::strtoll(std::string(csv.text(column)).c_str(), nullptr, 10);
    };
    const std::int64_t from = whole("Start_Timestamp"), to = whole("End_Timestamp");
    if (to < from) {
      csv.error("End_Timestamp", fmt::format("the kernel ends at {} before it starts at {}", to, from));
      continue;
    }
    ++rows;
    sink.event({.name = csv.text("Kernel_Name"),
                .category = "kernel",
                .start_ns = from,
                .duration_ns = to - from,
                .stream = csv.text("Stream_Id"),
                .device = agent});
  }
  if (rows == 0 && errors.count() == 0) errors.whole_file("the table holds no kernel");
}

void h800_classes(std::istream& in, GpuEventSink& sink, workload::RowErrors& errors) {
  Delimited csv(in, errors);
  if (!csv.require({"layer", "phase", "kernel_class", "stream", "count", "total_us"})) return;
  while (csv.next()) {
    const auto count = csv.number("count", 1), total = csv.number("total_us", 0);
    if (!count || !total) continue;
    const std::string name = fmt::format("{} {}", csv.text("phase"), csv.text("kernel_class"));
    sink.event({.name = name,
                .category = "kernel",
                .start_ns = 0,
                .duration_ns = std::llround(*total * 1e3),
                .stream = csv.text("stream"),
                .device = "H800"});
  }
}

}  // namespace

bool import_profile(Format format, std::istream& in, const std::string& file, const ImportOptions& options,
                    GpuEventSink& sink, config::Diagnostics& diagnostics) {
  workload::RowErrors errors(file, diagnostics);
  PlacedInput placed(in);
  const auto sax = [&](auto&& handler, const char* what) {
    std::istream text(&placed);
    nlohmann::json::sax_parse(text, &handler);
    if (!handler.failed() && !handler.saw_events()) errors.whole_file(fmt::format("no {} found", what));
  };
  switch (format) {
    case Format::kineto: sax(Kineto(placed, options, sink, errors), "traceEvents"); return true;
    case Format::rocprofv3_json:
      sax(RocprofJson(placed, options, sink, errors), "kernel_dispatch records");
      return true;
    case Format::rocprofv3_csv: rocprof_csv(in, options, sink, errors); return true;
    case Format::h800_classes: h800_classes(in, sink, errors); return true;
    case Format::op_log: import_op_log(in, options, sink, errors); return true;
    default: return false;
  }
}

void import_op_log(std::istream& in, const ImportOptions& options, GpuEventSink& sink, workload::RowErrors& errors) {
  OneDevice device(options.device, errors);
  std::string line;
  int number = 0;
  while (std::getline(in, line)) {
    ++number;
    if (trimmed(line).empty()) continue;
    const auto json = nlohmann::json::parse(line, nullptr, false);
    if (json.is_discarded() || !json.is_object()) {
      errors.at(number, 1, "expected one JSON object a line", in.eof() ? "the file may be cut off" : "");
      continue;
    }
    const auto text = [&](const char* key) {
      return json.contains(key) && json[key].is_string() ? json[key].get<std::string>() : std::string();
    };
    const auto whole = [&](const char* key) -> std::optional<std::int64_t> {
      if (!json.contains(key) || !json[key].is_number_integer()) return std::nullopt;
      return json[key].get<std::int64_t>();
    };
    const auto start = whole("start_ns"), duration = whole("duration_ns");
    const std::string op = text("op");
    if (op.empty() || !start || !duration || *duration < 0) {
      errors.at(number, 1, "needs op, start_ns and a duration_ns of 0 or more");
      continue;
    }
    const std::string rank = json.contains("rank") ? json["rank"].dump() : "0";
    if (!device.keeps(rank, {number, 1}, "")) continue;
    sink.event({.name = op,
                .category = "kernel",
                .start_ns = *start,
                .duration_ns = *duration,
                .stream = "0",
                .device = rank});
  }
}

}  // namespace faultline::calibration
