// The superposition of ServeGen clients: each client lays out one window at a time, a heap merges them.
#include <algorithm>
#include <cmath>
#include <queue>

#include "core/base/assert.h"
#include "core/base/random.h"
#include "core/workload/servegen.h"

namespace faultline::workload {
namespace {

class ServeGenSource final : public ArrivalSource {
 public:
  ServeGenSource(ServeGenFolder folder, double time_scale, double rate_scale, bool loop, std::uint64_t seed)
      : folder_(std::move(folder)),
        time_scale_(time_scale),
        rate_scale_(rate_scale),
        loop_(loop),
        gaps_(seed, "workload/servegen/gap"),
        lengths_(seed, "workload/servegen/length") {
    FAULTLINE_ASSERT(
        time_scale > 0 && rate_scale > 0 && busiest_window(folder_) * rate_scale <= kWindowRequestsScaledMax,
        "time_scale={} rate_scale={}", time_scale, rate_scale);
    for (const Client& client : folder_.clients) span_s_ = std::max(span_s_, client.windows.back().end_s);
    cursors_.resize(folder_.clients.size());
    for (std::size_t i = 0; i < cursors_.size(); ++i) {
      const auto& windows = folder_.clients[i].windows;
      cursors_[i].busy = std::any_of(windows.begin(), windows.end(), [](const ClientWindow& w) { return w.rate > 0; });
      advance(i);
    }
  }

  bool next(Arrival& arrival) override {
    if (heads_.empty()) return false;
    const auto [at, client_index] = heads_.top();
    heads_.pop();
    const Client& client = folder_.clients[client_index];
    Cursor& cursor = cursors_[client_index];
    const ClientWindow& window = client.windows[cursor.window];
    const auto& lengths = std::prev(client.lengths.upper_bound(window.begin_s))->second;
    // Keyed by (client, how many requests it sent): what the others do moves nothing.
    Random r = lengths_.at(static_cast<std::uint64_t>(client.number), cursor.sent++);
    arrival = {.at = at, .session = static_cast<std::uint32_t>(client_index)};
    arrival.prompt = Tokens{lengths[0].draw(r)};
    arrival.output = Tokens{lengths[1].draw(r)};
    advance(client_index);
    return true;
  }

 private:
  struct Cursor {
    std::size_t window = 0;
    std::uint64_t round = 0;
    std::uint64_t sent = 0;
    bool started = false;
    bool busy = false;           // has a window that is not idle
    std::vector<Instant> times;  // of the current window
    std::size_t used = 0;
  };

  /// Puts the client's next arrival on the heap, laying out further windows as needed.
  void advance(std::size_t index) {
    Cursor& c = cursors_[index];
    const auto& windows = folder_.clients[index].windows;
    while (c.used == c.times.size()) {
      if (c.started && ++c.window == windows.size()) {
        if (!loop_ || !c.busy) return;  // a loop over idle windows would never end
        c.window = 0;
        ++c.round;
      }
      c.started = true;
      lay_out(index);
    }
    heads_.push({c.times[c.used++], index});
  }

  void lay_out(std::size_t index) {
    Cursor& c = cursors_[index];
    c.times.clear();
    c.used = 0;
    const Client& client = folder_.clients[index];
    const ClientWindow& w = client.windows[c.window];
    if (w.pattern == ClientWindow::Pattern::idle) return;
    Random r = gaps_.at(static_cast<std::uint64_t>(client.number), c.round * client.windows.size() + c.window);
    const double length_s = static_cast<double>(w.end_s - w.begin_s);
    const double expected = w.rate * length_s * rate_scale_;
    // A recorded rate is a count over the window's length: rounding restores the count from its decimals.
    const double nearest = std::round(expected);
    const double whole = std::abs(expected - nearest) < 1e-6 * std::max(1.0, expected) ? nearest : std::floor(expected);
    const auto count =
        static_cast<std::size_t>(whole) + static_cast<std::size_t>(whole < expected && r.chance(expected - whole));
    sums_.clear();
    double sum = 0;
    for (std::size_t i = 0; i <= count; ++i) {
      sum += w.pattern == ClientWindow::Pattern::gamma ? r.gamma(w.shape, 1) : r.weibull(w.shape, 1);
      sums_.push_back(sum);
    }
    const double begin_s = static_cast<double>(w.begin_s) + static_cast<double>(c.round) * static_cast<double>(span_s_);
    for (std::size_t i = 0; i < count; ++i) {
      // Gaps of a very small shape may all underflow to 0 (or overflow): then evenly.
      const double part =
          sum > 0 && std::isfinite(sum) ? sums_[i] / sum : static_cast<double>(i) / static_cast<double>(count);
      c.times.push_back(
          Instant{duration_from_seconds((begin_s + length_s * std::min(part, 1 - 1e-9)) * time_scale_).v});
    }
  }

  struct Head {
    Instant at;
    std::size_t client;
    friend bool operator>(const Head& a, const Head& b) { return a.at != b.at ? a.at > b.at : a.client > b.client; }
  };

  ServeGenFolder folder_;
  double time_scale_, rate_scale_;
  bool loop_;
  Random gaps_, lengths_;
  std::int64_t span_s_ = 0;
  std::vector<Cursor> cursors_;
  std::vector<double> sums_;
  std::priority_queue<Head, std::vector<Head>, std::greater<>> heads_;
};

}  // namespace

std::unique_ptr<ArrivalSource> make_servegen_source(ServeGenFolder folder, double time_scale, double rate_scale,
                                                    bool loop, std::uint64_t seed) {
  return std::make_unique<ServeGenSource>(std::move(folder), time_scale, rate_scale, loop, seed);
}

}  // namespace faultline::workload
