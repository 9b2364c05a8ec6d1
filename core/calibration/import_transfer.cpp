// Point-to-point bandwidth tables: MORI-IO's printed tables and their normalised copy, perftest, rccl-tests, and the
// client side of vLLM's serving benchmark.
#include <fmt/format.h>
#include <algorithm>
#include <nlohmann/json.hpp>
#include <sstream>

#include "core/calibration/delimited.h"
#include "core/calibration/importers.h"

namespace faultline::calibration {
namespace {

std::vector<std::string> split(std::string_view line, char separator) {
  std::vector<std::string> parts;
  std::size_t start = 0;
  while (start <= line.size()) {
    const auto end = std::min(line.find(separator, start), line.size());
    parts.emplace_back(trimmed(line.substr(start, end - start)));
    start = end + 1;
  }
  return parts;
}

std::vector<std::string> words(std::string_view line) {
  std::istringstream in{std::string(line)};
  std::vector<std::string> out;
  for (std::string word; in >> word;) out.push_back(word);
  return out;
}

bool bandwidth_agrees(double total_bytes, double us, double gbps) {
  return gbps < 0.05 || (total_bytes / us / 1e3 > 0.5 * gbps && total_bytes / us / 1e3 < 2 * gbps);
}

}  // namespace

void import_mori_io_table(std::istream& in, const ImportOptions& options, Dataset& data, workload::RowErrors& errors) {
  Delimited csv(in, errors);
  if (!csv.require({"table", "gpu", "nic", "op", "msg_bytes", "batch", "avg_bw_gbps", "avg_lat_us"})) return;
  while (csv.next()) {
    const auto bytes = csv.number("msg_bytes", 1), batch = csv.number("batch", 1), us = csv.number("avg_lat_us", 1e-3);
    const auto gbps = csv.number_or("avg_bw_gbps", 0, 0, 1e5);
    if (!bytes || !batch || !us || !gbps) continue;
    TransferSample row{.nic = std::string(csv.text("nic")),
                       .operation = std::string(csv.text("op")),
                       .series = std::string(csv.text("table")),
                       .bytes = *bytes,
                       .batch = *batch,
                       .us = *us,
                       .origin = {}};
    row.origin.mark = {errors.file(), csv.line(), 1};
    row.origin.hardware = options.hardware.empty() ? std::string(csv.text("gpu")) : options.hardware;
    if (!bandwidth_agrees(*bytes * *batch, *us, *gbps))
      csv.error("avg_lat_us", fmt::format("{} us contradicts {} GB/s of the same row", *us, *gbps));
    data.transfer.push_back(std::move(row));
  }
}

// +---+---+ frames; cells between '|'. The batch is a column, or TotalSize / MsgSize of the largest row (TotalSize is
// printed in MB of 10^6 with two decimals).
void import_mori_io(std::istream& in, const ImportOptions& options, Dataset& data, workload::RowErrors& errors) {
  std::vector<std::string> header;
  struct Row {
    double bytes, batch, total_mb, gbps, us;
    int line;
  };
  std::vector<Row> rows;
  std::string line, title;
  int number = 0;
  while (std::getline(in, line)) {
    ++number;
    const auto bar = line.find('|');
    if (bar == std::string::npos) {
      if (line.find("Read") != std::string::npos || line.find("read") != std::string::npos) title = "read";
      if (line.find("Write") != std::string::npos || line.find("write") != std::string::npos) title = "write";
      continue;
    }
    auto cells = split(std::string_view(line).substr(bar + 1), '|');
    if (!cells.empty() && cells.back().empty()) cells.pop_back();
    if (cells.size() < 3) continue;  // the frame's title
    if (cells[0].starts_with("MsgSize")) {
      header = cells;
      continue;
    }
    if (header.empty()) continue;
    if (cells.size() != header.size()) {
      errors.at(number, 1, fmt::format("expected {} cells, got {}", header.size(), cells.size()),
                "the table may be cut off");
      continue;
    }
    Row row{0, 0, 0, 0, 0, number};
    bool good = true;
    for (std::size_t i = 0; i < cells.size(); ++i) {
      const auto value = parse_number(cells[i]);
      if (!value || *value < 0) {
        errors.at(
            number, static_cast<int>(line.find(cells[i])) + 1,
            fmt::format("{}: expected a number that is not negative, got {}", header[i], workload::shown(cells[i])));
        good = false;
        continue;
      }
      std::string name = header[i];
      std::transform(name.begin(), name.end(), name.begin(),
                     [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; });
      if (name.starts_with("msgsize")) row.bytes = *value;
      else if (name.starts_with("batch")) row.batch = *value;
      else if (name.starts_with("totalsize")) row.total_mb = *value;
      else if (name.starts_with("avg bw")) row.gbps = *value;
      else if (name.starts_with("avg lat")) row.us = *value;
    }
    if (good && (row.bytes < 1 || row.us <= 0))
      errors.at(number, 1, "needs a message size and an average latency above 0");
    else if (good) rows.push_back(row);
  }
  if (header.empty()) errors.whole_file("no table with MsgSize, Avg BW and Avg Lat found");
  double inferred = 1;
  for (const Row& row : rows) {
    if (row.total_mb > 1)
      inferred = static_cast<double>(static_cast<std::int64_t>(row.total_mb * 1e6 / row.bytes + 0.5));
  }
  const std::string file = errors.file();
  if (title.empty()) title = file.find("read") != std::string::npos ? "read" : "write";
  for (const Row& row : rows) {
    TransferSample sample{.nic = file.find("thor2") != std::string::npos ? "Thor2" : "CX7",
                          .operation = title,
                          .series = file,
                          .bytes = row.bytes,
                          .batch = row.batch > 0 ? row.batch : inferred,
                          .us = row.us,
                          .origin = {}};
    sample.origin.mark = {file, row.line, 1};
    sample.origin.hardware = options.hardware.empty() ? "MI300X" : options.hardware;
    if (!bandwidth_agrees(sample.bytes * sample.batch, sample.us, row.gbps))
      errors.at(row.line, 1, fmt::format("{} us contradicts {} GB/s of the same row", row.us, row.gbps));
    data.transfer.push_back(std::move(sample));
  }
}

// perftest (linux-rdma/perftest): "#bytes #iterations BW peak[MB/sec] BW average[MB/sec] MsgRate[Mpps]" where MB is
// 2^20 bytes (man ib_write_bw), "[Gb/sec]" with --report_gbits, or latency tables with t_typical[usec].
void import_perftest(std::istream& in, const ImportOptions& options, Dataset& data, workload::RowErrors& errors) {
  std::string line, test = "write";
  int number = 0, bandwidth_column = -1, latency_column = -1;
  double bytes_per_second_unit = 0;
  bool any_header = false;
  while (std::getline(in, line)) {
    ++number;
    if (line.find(" Read ") != std::string::npos || line.find("RDMA_Read") != std::string::npos) test = "read";
    else if (line.find("RDMA_Write") != std::string::npos) test = "write";
    else if (line.find("Send ") != std::string::npos) test = "send";
    const std::string_view body = trimmed(line);
    if (body.starts_with("#bytes")) {
      any_header = true;
      bandwidth_column = latency_column = -1;
      // Column titles hold blanks ("BW average[MB/sec]"), so they are placed by their order, not by splitting.
      if (body.find("BW average") != std::string_view::npos) {
        bandwidth_column = 3;
        bytes_per_second_unit =
            body.find("[Gb/sec]") != std::string_view::npos ? 1e9 / 8
            : body.find("[MiB/sec]") != std::string_view::npos || body.find("[MB/sec]") != std::string_view::npos
                ? 1048576.0
                : 0;
        if (bytes_per_second_unit == 0)
          errors.at(number, 1, "unknown unit of the bandwidth columns; expected [MB/sec], [MiB/sec] or [Gb/sec]");
      } else if (body.find("t_avg") != std::string_view::npos || body.find("t_typical") != std::string_view::npos) {
        const auto titles = words(body);
        for (std::size_t i = 0; i < titles.size(); ++i)
          if (titles[i].starts_with("t_avg") || (latency_column < 0 && titles[i].starts_with("t_typical")))
            latency_column = static_cast<int>(i);
      }
      continue;
    }
    if (body.empty() || body[0] < '0' || body[0] > '9' || !any_header) continue;
    const auto cells = words(body);
    const int column = bandwidth_column >= 0 ? bandwidth_column : latency_column;
    if (column < 0 || static_cast<int>(cells.size()) <= column) {
      errors.at(number, 1, fmt::format("expected at least {} values, got {}", column + 1, cells.size()),
                "the output may be cut off");
      continue;
    }
    const auto bytes = parse_number(cells[0]), value = parse_number(cells[static_cast<std::size_t>(column)]);
    if (!bytes || !value || *bytes < 1 || *value <= 0) {
      errors.at(number, static_cast<int>(line.find(cells[static_cast<std::size_t>(column)])) + 1,
                "expected a positive number, got " + workload::shown(cells[static_cast<std::size_t>(column)]));
      continue;
    }
    TransferSample row{.nic = "unknown",
                       .operation = test,
                       .series = errors.file() + (bandwidth_column >= 0 ? " bandwidth" : " latency"),
                       .bytes = *bytes,
                       .batch = 1,
                       .us = 0,
                       .origin = {}};
    row.us = bandwidth_column >= 0 ? *bytes / (*value * bytes_per_second_unit) * 1e6 : *value;
    row.origin.mark = {errors.file(), number, 1};
    row.origin.hardware = options.hardware;
    data.transfer.push_back(std::move(row));
  }
  if (!any_header) errors.whole_file("no line beginning with '#bytes' found");
}

// rccl-tests / nccl-tests: "size count type redop root time algbw busbw #wrong time algbw busbw #wrong"; size in bytes,
// time in us (out of place first).
void import_rccl_tests(std::istream& in, const ImportOptions& options, Dataset& data, workload::RowErrors& errors) {
  std::string line, operation = "all_reduce";
  int number = 0, ranks = 0, time_column = -1, rate_column = -1;
  static const std::vector<std::string> kTests{"all_reduce", "all_gather", "reduce_scatter",
                                               "alltoall",   "broadcast",  "sendrecv"};
  while (std::getline(in, line)) {
    ++number;
    for (const auto& test : kTests)
      if (line.find(test + "_perf") != std::string::npos) operation = test;
    const std::string_view body = trimmed(line);
    if (body.starts_with("#") && body.find("Rank") != std::string_view::npos &&
        body.find("device") != std::string_view::npos)
      ++ranks;
    if (body.starts_with("#") && body.find("size") != std::string_view::npos &&
        body.find("count") != std::string_view::npos) {
      const auto titles = words(body.substr(1));
      for (std::size_t i = titles.size(); i-- > 0;) {  // the leftmost of each: out of place comes first
        if (titles[i] == "time") time_column = static_cast<int>(i);
        if (titles[i] == "algbw") rate_column = static_cast<int>(i);
      }
      continue;
    }
    if (time_column < 0 || body.empty() || body[0] < '0' || body[0] > '9') continue;
    const auto cells = words(body);
    const int needed = std::max(time_column, rate_column) + 1;
    if (static_cast<int>(cells.size()) < needed) {
      errors.at(number, 1, fmt::format("expected at least {} values, got {}", needed, cells.size()),
                "the output may be cut off");
      continue;
    }
    const auto bytes = parse_number(cells[0]), us = parse_number(cells[static_cast<std::size_t>(time_column)]);
    if (!bytes || !us || *us <= 0) {
      errors.at(number, 1, "expected a size and a positive time, got " + workload::shown(body));
      continue;
    }
    if (*bytes == 0) continue;
    if (rate_column >= 0) {
      const std::string& cell = cells[static_cast<std::size_t>(rate_column)];
      const auto gbps = parse_number(cell);
      if (!gbps || *gbps < 0) {
        errors.at(number, static_cast<int>(line.find(cell)) + 1,
                  "algbw: expected a number that is not negative, got " + workload::shown(cell));
        continue;
      }
      if (!bandwidth_agrees(*bytes, *us, *gbps)) {
        errors.at(number, 1, fmt::format("{} us contradicts {} GB/s of the same row", *us, *gbps));
        continue;
      }
    }
    CollectiveSample row{.operation = operation,
                         .ranks = static_cast<double>(std::max(ranks, 1)),
                         .bytes = *bytes,
                         .us = *us,
                         .origin = {}};
    row.origin.mark = {errors.file(), number, 1};
    row.origin.hardware = options.hardware;
    data.collective.push_back(std::move(row));
  }
  if (time_column < 0) errors.whole_file("no header line '# size count … time …' found");
}

void import_vllm_bench(std::istream& in, const ImportOptions& options, Dataset& data, workload::RowErrors& errors) {
  const std::string text{std::istreambuf_iterator<char>(in), {}};
  nlohmann::json json;
  try {
    json = nlohmann::json::parse(text);
  } catch (const nlohmann::json::parse_error& e) {
    const auto end = text.begin() + static_cast<std::ptrdiff_t>(std::min(e.byte, text.size()));
    errors.at(1 + static_cast<int>(std::count(text.begin(), end, '\n')), 1,
              e.byte >= text.size() ? "the JSON is cut off" : "not valid JSON", e.what());
    return;
  }
  ServingSample row;
  bool good = true;
  const auto number = [&](const char* key, bool required) {
    if (json.contains(key) && json[key].is_number()) {
      const double value = json[key].get<double>();
      if (value >= 0) return value;
      // The parser keeps no places: a summary is small, its keys are looked up again.
      const std::size_t at = std::min(text.find(fmt::format("\"{}\"", key)), text.size());
      const auto begin = text.begin() + static_cast<std::ptrdiff_t>(at);
      errors.at(1 + static_cast<int>(std::count(text.begin(), begin, '\n')),
                static_cast<int>(at - (text.rfind('\n', at) + 1)) + 1,  // npos + 1 is 0
                fmt::format("{}: expected a number that is not negative, got {}", key, value));
      good = false;
    } else if (required) {
      errors.whole_file(fmt::format("'{}' is missing or not a number", key));
      good = false;
    }
    return 0.0;
  };
  row.duration_s = number("duration", true);
  row.requests = number("completed", true);
  row.input_tokens = number("total_input_tokens", true);
  row.output_tokens = number("total_output_tokens", true);
  row.request_rate = number("request_rate", false);
  row.concurrency = number("max_concurrency", false);
  row.ttft_ms_mean = number("mean_ttft_ms", true);
  row.ttft_ms_p99 = number("p99_ttft_ms", false);
  row.tpot_ms_mean = number("mean_tpot_ms", true);
  row.tpot_ms_p99 = number("p99_tpot_ms", false);
  row.itl_ms_mean = number("mean_itl_ms", false);
  if (json.contains("model_id") && json["model_id"].is_string()) row.model = json["model_id"].get<std::string>();
  row.origin.mark = {errors.file(), 1, 1};
  row.origin.hardware = options.hardware;
  if (json.contains("date") && json["date"].is_string()) row.origin.date = json["date"].get<std::string>();
  if (good) data.serving.push_back(std::move(row));
}

}  // namespace faultline::calibration
