// `faultline bench transport`: what the transports of this machine do, beside the tools that people trust, in the same
// run. Ratios come from interleaved pairs (ours, theirs, ours, theirs, …) and are medians, because machines are shared;
// absolute numbers are printed with their smallest and largest value. Every measured batch shape goes to
// transport_ops.csv.
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>
#include <thread>

#include "backend/kv/sender.h"
#include "backend/transport/bench_link.h"
#include "backend/transport/tcp_transport.h"
#ifdef FAULTLINE_VERBS
#include "backend/transport/verbs_transport.h"
#endif
#include "cli/command.h"
#include "core/base/random.h"

namespace faultline::cli {
namespace {

using namespace faultline::transport;
using Clock = std::chrono::steady_clock;

struct Options {
  std::vector<std::string> sizes{"4096", "65536", "1048576"};
  std::vector<int> batches{1, 16};
  std::vector<int> connections{1, 2};
  int pairs = 7;
  double seconds = 0.4;  // per measurement
  std::string out;
  bool compare_only = false;
};

constexpr std::size_t kRegion = 72 << 20;  // holds the KV of the prompt below

LinkSettings tcp_link(bool same_host, int connections) {
  LinkSettings settings;
  settings.region_bytes = kRegion;
  settings.make = [same_host, connections](int) -> std::unique_ptr<Transport> {
    TcpSettings tcp;
    tcp.secret = "bench";
    tcp.same_host_path = same_host;
    tcp.connections = static_cast<std::uint32_t>(connections);
    tcp.failure_budget = Duration{10'000'000'000};
    tcp.connect_timeout = Duration{20'000'000'000};
    return std::make_unique<TcpTransport>(tcp);
  };
  return settings;
}

struct Series {
  std::vector<double> values;
  double median() const {
    auto sorted = values;
    std::sort(sorted.begin(), sorted.end());
    return sorted.empty() ? 0 : sorted[sorted.size() / 2];
  }
  double low() const { return values.empty() ? 0 : *std::min_element(values.begin(), values.end()); }
  double high() const { return values.empty() ? 0 : *std::max_element(values.begin(), values.end()); }
};

void print_ratio(const char* what, const Series& ours, const Series& theirs, const char* name) {
  Series ratio;
  for (std::size_t i = 0; i < ours.values.size() && i < theirs.values.size(); ++i)
    ratio.values.push_back(ours.values[i] / theirs.values[i]);
  fmt::print(
      "  {:<34} {:6.3f} GB/s ({:.3f} to {:.3f})   {} {:.3f} GB/s   ratio {:.2f} (median of {} pairs, {:.2f} to "
      "{:.2f})\n",
      what, ours.median(), ours.low(), ours.high(), name, theirs.median(), ratio.median(), ratio.values.size(),
      ratio.low(), ratio.high());
}

/// Batches of `spans` spans of `size` bytes; scattered spans touch on neither side, so nothing merges.
std::vector<WriteSpan> shape(std::uint64_t batch, std::int64_t size, int spans, bool scattered) {
  std::vector<WriteSpan> all;
  const std::int64_t step = scattered ? size + 64 : size;
  const std::int64_t total = step * spans;
  const std::int64_t base =
      static_cast<std::int64_t>(batch) * total % std::max<std::int64_t>(1, static_cast<std::int64_t>(kRegion) - total);
  for (int i = 0; i < spans; ++i)
    all.push_back({kLinkLocal, {base + i * step}, kLinkRemote, {base + i * step}, {size}});
  return all;
}

double gbps(const ProcessLink::Flow& flow) {
  return flow.seconds > 0 ? static_cast<double>(flow.bytes) / flow.seconds / 1e9 : 0;
}

/// Streams for about `seconds`: a short probe sizes the run.
ProcessLink::Flow timed(ProcessLink& link, double seconds, std::size_t depth,
                        const std::function<std::vector<WriteSpan>(std::uint64_t)>& make) {
  std::int64_t one = 0;
  for (const WriteSpan& span : make(0)) one += span.length.v;
  const auto probe = link.stream(one * static_cast<std::int64_t>(depth) * 4, depth, make);
  if (probe.cause != Cause::none) return probe;
  const double rate = static_cast<double>(probe.bytes) / std::max(probe.seconds, 1e-6);
  return link.stream(std::max<std::int64_t>(one * 16, static_cast<std::int64_t>(rate * seconds)), depth, make);
}

std::string output_of(const std::string& command) {
  std::string text;
  std::FILE* pipe = ::popen((command + " 2>/dev/null").c_str(), "r");
  if (!pipe) return text;
  std::array<char, 4096> buffer;
  for (std::size_t count = 0; (count = std::fread(buffer.data(), 1, buffer.size(), pipe)) > 0;)
    text.append(buffer.data(), count);
  ::pclose(pipe);
  return text;
}
bool installed(const char* program) { return !output_of(fmt::format("command -v {}", program)).empty(); }
bool shell(const std::string& command) { return std::system((command + " > /dev/null 2>&1").c_str()) == 0; }

/// One second or so of iperf3 against a server that is already there.
double iperf(const std::string& prefix, const std::string& host, double seconds) {
  const auto text = output_of(
      fmt::format("{} iperf3 -c {} -p 5987 -t {} -J", prefix, host, std::max(1, static_cast<int>(seconds + 0.5))));
  const auto json = nlohmann::json::parse(text, nullptr, false);
  if (json.is_discarded() || !json.contains("end") || !json["end"].contains("sum_received")) return 0;
  return json["end"]["sum_received"]["bits_per_second"].get<double>() / 8e9;
}

/// Two network namespaces joined by a veth pair, removed at the end.
class Namespaces {
 public:
  Namespaces() {
    made_ = shell("ip netns add flb0") && shell("ip netns add flb1") &&
            shell("ip link add flbe0 netns flb0 type veth peer name flbe1 netns flb1") &&
            shell("ip -n flb0 addr add 10.91.0.1/24 dev flbe0") &&
            shell("ip -n flb1 addr add 10.91.0.2/24 dev flbe1") && shell("ip -n flb0 link set flbe0 up") &&
            shell("ip -n flb1 link set flbe1 up") && shell("ip -n flb0 link set lo up") &&
            shell("ip -n flb1 link set lo up");
  }
  ~Namespaces() {
    shell("ip netns del flb0");
    shell("ip netns del flb1");
  }
  bool made() const { return made_; }

 private:
  bool made_ = false;
};

double memcpy_rate(double seconds) {
  static std::vector<std::byte> from(kRegion, std::byte{1}), to(kRegion, std::byte{2});
  const auto start = Clock::now();
  std::int64_t bytes = 0;
  double passed = 0;
  do {
    std::memcpy(to.data(), from.data(), kRegion);
    bytes += kRegion;
    passed = std::chrono::duration<double>(Clock::now() - start).count();
  } while (passed < seconds);
  return static_cast<double>(bytes) / passed / 1e9;
}

/// A prompt of 2,000 tokens of DeepSeek-V3: 61 layers, 32 pages of 64 tokens, 576 bytes a token (MLA latent 512 + rope
/// 64, FP8).
double kv_rate(ProcessLink& link, bool scattered, std::uint64_t round) {
  const kv::Layout layout{.layers = 61, .blocks = 32, .slice_bytes = 36'864};
  std::uint64_t ops = 1ULL << 40 | round << 24;
  kv::Sender sender(layout, {&link.transport()}, {{kLinkPeer, kLinkLocal, kLinkRemote}}, [&] { return OpId{++ops}; });
  std::vector<std::uint32_t> from, to;
  for (std::uint32_t i = 0; i < layout.blocks; ++i) from.push_back(i);
  to = from;
  if (scattered) {
    Random r(round, "bench/kv");
    for (auto* list : {&from, &to}) {
      for (std::size_t i = list->size(); i > 1; --i) std::swap((*list)[i - 1], (*list)[r.below(i)]);
    }
  }
  const auto start = Clock::now();
  sender.begin(RequestId{0}, from, {0, to});
  for (std::uint32_t layer = 0; layer < layout.layers; ++layer) sender.layer_ready(RequestId{0}, layer);
  std::array<TransportEvent, 64> events;
  while (sender.active() > 0) {
    const std::size_t count = link.transport().poll(events);
    for (std::size_t i = 0; i < count; ++i) sender.handle(0, events[i]);
    if (count == 0) std::this_thread::sleep_for(std::chrono::microseconds(50));
  }
  const double seconds = std::chrono::duration<double>(Clock::now() - start).count();
  for (const auto& event : sender.take_events()) {
    if (const auto* sent = std::get_if<kv::Sent>(&event)) return static_cast<double>(sent->bytes.v) / seconds / 1e9;
  }
  return 0;
}

void sweep(const Options& o, std::string& csv) {
  fmt::print("{:<10} {:>5} {:>9} {:>6} {:>10} {:>9} {:>12} {:>14}\n", "path", "conns", "size", "spans", "scattered",
             "GB/s", "post us/op", "post us/span");
  for (const bool same_host : {false, true}) {
    for (const int connections : o.connections) {
      if (same_host && connections != o.connections.front()) continue;  // one ring
      ProcessLink link(tcp_link(same_host, connections));
      for (const std::string& text : o.sizes) {
        const std::int64_t size = std::stoll(text);
        for (const int spans : o.batches) {
          for (const bool scattered : {false, true}) {
            if ((scattered && spans == 1) || size * spans > 16 << 20) continue;
            const auto flow =
                timed(link, o.seconds, 16, [&](std::uint64_t i) { return shape(i, size, spans, scattered); });
            const double post_us = flow.batches > 0 ? flow.post_seconds / static_cast<double>(flow.batches) * 1e6 : 0;
            const char* path = same_host ? "same-host" : "tcp";
            fmt::print("{:<10} {:>5} {:>9} {:>6} {:>10} {:>9.3f} {:>12.2f} {:>14.3f}\n", path,
                       same_host ? 1 : connections, size, spans, scattered ? "yes" : "no", gbps(flow), post_us,
                       post_us / spans);
            csv += fmt::format("{},{},{},{},{},16,{},{},{:.9f},{:.9f},{}\n", path, same_host ? 1 : connections, size,
                               spans, scattered ? 1 : 0, flow.batches, flow.bytes, flow.seconds, flow.post_seconds,
                               name_of(flow.cause));
          }
        }
      }
      const auto latency = link.stream(8 * 2'000, 1, [](std::uint64_t i) { return shape(i, 8, 1, false); });
      fmt::print("{:<10} {:>5} 8 bytes, one at a time: {:.1f} us each\n", same_host ? "same-host" : "tcp",
                 same_host ? 1 : connections, latency.seconds / static_cast<double>(latency.batches) * 1e6);
    }
  }
}

void compare_with_iperf(const Options& o) {
  if (!installed("iperf3")) {
    fmt::print("  iperf3 is not installed: no comparison\n");
    return;
  }
  const auto large = [](std::uint64_t i) { return shape(i, 4 << 20, 1, false); };
  {
    shell("iperf3 -s -D -p 5987 -I /tmp/faultline_iperf3.pid --idle-timeout 60");
    std::this_thread::sleep_for(std::chrono::milliseconds(300));
    ProcessLink link(tcp_link(false, 1));
    Series ours, theirs;
    for (int i = 0; i < o.pairs; ++i) {
      ours.values.push_back(gbps(timed(link, 1.0, 8, large)));
      theirs.values.push_back(iperf("", "127.0.0.1", 1));
    }
    print_ratio("tcp, loopback", ours, theirs, "iperf3");
    shell("kill $(tr -d '\\0' < /tmp/faultline_iperf3.pid)");
  }
  Namespaces names;
  if (!names.made()) {
    fmt::print("  no network namespaces (not root?): no comparison between namespaces\n");
    return;
  }
  shell("ip netns exec flb1 iperf3 -s -D -p 5987 -I /tmp/faultline_iperf3.pid --idle-timeout 60");
  std::this_thread::sleep_for(std::chrono::milliseconds(300));
  LinkSettings settings = tcp_link(false, 1);
  settings.parent_netns = "flb0";
  settings.child_netns = "flb1";
  settings.make = [](int side) -> std::unique_ptr<Transport> {
    TcpSettings tcp;
    tcp.secret = "bench";
    tcp.bind_address = side == 0 ? "10.91.0.1" : "10.91.0.2";
    tcp.connections = 1;
    tcp.failure_budget = Duration{10'000'000'000};
    tcp.connect_timeout = Duration{20'000'000'000};
    return std::make_unique<TcpTransport>(tcp);
  };
  ProcessLink link(settings);
  Series ours, theirs;
  for (int i = 0; i < o.pairs; ++i) {
    ours.values.push_back(gbps(timed(link, 1.0, 8, large)));
    theirs.values.push_back(iperf("ip netns exec flb0", "10.91.0.2", 1));
  }
  print_ratio("tcp, between two namespaces", ours, theirs, "iperf3");
  shell("kill $(tr -d '\\0' < /tmp/faultline_iperf3.pid)");
}

/// The same-host path's two ways: regions in shared memory, read in place, and private ones, through the ring.
void compare_with_memcpy(const Options& o) {
  for (const bool shared : {true, false}) {
    LinkSettings settings = tcp_link(true, 1);
    settings.shared_memory = shared;
    ProcessLink link(settings);
    Series ours, theirs;
    for (int i = 0; i < o.pairs; ++i) {
      ours.values.push_back(gbps(timed(link, 0.7, 8, [](std::uint64_t k) { return shape(k, 4 << 20, 1, false); })));
      theirs.values.push_back(memcpy_rate(0.7));
    }
    print_ratio(shared ? "same host, shared regions" : "same host, private regions", ours, theirs, "memcpy");
  }
}

void compare_kv(const Options& o) {
  ProcessLink link(tcp_link(false, 1));
  Series raw, whole, scattered;
  for (int i = 0; i < o.pairs; ++i) {
    const auto flow = link.stream(128 << 20, 16, [](std::uint64_t k) { return shape(k, 1 << 20, 1, false); });
    raw.values.push_back(gbps(flow));
    whole.values.push_back(kv_rate(link, false, 2 * static_cast<std::uint64_t>(i) + 1));
    scattered.values.push_back(kv_rate(link, true, 2 * static_cast<std::uint64_t>(i) + 2));
  }
  print_ratio("KV by layers, blocks in a row", whole, raw, "raw");
  print_ratio("KV by layers, blocks at random", scattered, raw, "raw");
}

#ifdef FAULTLINE_VERBS
/// Needs two devices that reach each other (software RoCE in tests/support/rxe-vm.sh: rxe0 and rxe1).
void compare_verbs(const Options& o) {
  const auto devices = verbs_devices();
  if (devices.size() < 2) {
    fmt::print("  fewer than two RDMA devices: no verbs measurement (tests/support/rxe-vm.sh makes two of software)\n");
    return;
  }
  LinkSettings settings;
  settings.region_bytes = 4 << 20;
  settings.make = [&devices](int side) -> std::unique_ptr<Transport> {
    VerbsSettings verbs;
    verbs.devices = {devices[static_cast<std::size_t>(side)]};
    verbs.timeout = 18;
    verbs.transfer_deadline = Duration{20'000'000'000};
    verbs.control.secret = "bench";
    verbs.control.failure_budget = Duration{20'000'000'000};
    verbs.control.connect_timeout = Duration{20'000'000'000};
    return std::make_unique<VerbsTransport>(verbs);
  };
  ProcessLink link(settings);
  fmt::print("{}", dynamic_cast<VerbsTransport&>(link.transport()).description());
  Series ours, theirs;
  for (int i = 0; i < o.pairs; ++i) {
    const auto flow = link.stream(4 << 20, 32, [](std::uint64_t k) {
      const std::int64_t at = static_cast<std::int64_t>(k % 32) << 16;
      return std::vector<WriteSpan>{{kLinkLocal, {at}, kLinkRemote, {at}, {65'536}}};
    });
    ours.values.push_back(gbps(flow));
    fmt::print("  posting: {:.2f} us per request\n", flow.post_seconds / static_cast<double>(flow.batches) * 1e6);
    if (!installed("ib_write_bw")) continue;
    const std::string common = fmt::format("-x 1 -s 65536 -n 64 -t 32 -m 4096 -u 18 -p {}", 18600 + i);
    shell(fmt::format("ib_write_bw -d {} {} &", devices[1], common));
    std::this_thread::sleep_for(std::chrono::milliseconds(700));
    const auto text = output_of(fmt::format("ib_write_bw -d {} {} 127.0.0.1 | grep -E '^ *65536'", devices[0], common));
    double size = 0, count = 0, peak = 0, average = 0;
    if (std::sscanf(text.c_str(), "%lf %lf %lf %lf", &size, &count, &peak, &average) == 4)
      theirs.values.push_back(average * 1048576 / 1e9);
  }
  print_ratio("verbs, 64 KiB writes", ours, theirs, "ib_write_bw");
}
#endif

int run(const Options& o) {
  std::string csv = "path,connections,size_bytes,spans,scattered,depth,batches,bytes,seconds,post_seconds,cause\n";
  if (!o.compare_only) sweep(o, csv);
  fmt::print("\nBeside other tools, in this run:\n");
#ifdef FAULTLINE_VERBS
  if (!verbs_devices().empty()) {
    compare_verbs(o);
    return 0;  // an emulated machine: nothing else is worth measuring there
  }
#endif
  compare_with_iperf(o);
  compare_with_memcpy(o);
  compare_kv(o);
  if (!o.out.empty()) {
    std::filesystem::create_directories(o.out);
    write_file(o.out + "/transport_ops.csv", csv);
    fmt::print("wrote {}/transport_ops.csv\n", o.out);
  }
  return 0;
}

const Registration kTransport{
    {.order = 82,
     .name = "bench transport",
     .help = "Transports: size x batch x connections x fragmentation, beside iperf3, memcpy and perftest",
     .setup = [](CLI::App& app) -> std::function<int()> {
       auto o = std::make_shared<Options>();
       app.add_option("--sizes", o->sizes, "Bytes of a span")->delimiter(',')->capture_default_str();
       app.add_option("--batches", o->batches, "Spans of a batch")->delimiter(',')->capture_default_str();
       app.add_option("--connections", o->connections, "Connections of a TCP peer")
           ->delimiter(',')
           ->capture_default_str();
       app.add_option("--pairs", o->pairs, "Interleaved pairs of each comparison")
           ->check(CLI::Range(1, 1000))
           ->capture_default_str();
       app.add_option("--seconds", o->seconds, "Of each measurement of the sweep")
           ->check(CLI::Range(0.01, 60.0))
           ->capture_default_str();
       app.add_option("--out", o->out, "Folder for transport_ops.csv");
       app.add_flag("--compare-only", o->compare_only, "Leave the sweep out");
       return [o] { return run(*o); };
     }}};

}  // namespace
}  // namespace faultline::cli
