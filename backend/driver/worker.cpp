#include "backend/driver/worker.h"

#include <poll.h>
#include <signal.h>
#include <sys/socket.h>

#include <cerrno>

#include "backend/driver/worker_exchange.h"
#include "core/model/pricer.h"

namespace faultline::live {
namespace {

using std::chrono::steady_clock;

/// Durations of a run's steps from the pricer: sums are rounded, not steps, so that a run lasts what it is priced at.
class Prices {
 public:
  explicit Prices(const model::StepPricer& pricer) : pricer_(pricer) {}
  Duration prefill(const PrefillStep& step) const {
    return whole_nanoseconds(pricer_.step(step.items, step.decode, {}));
  }
  /// Asked step by step, from 0 on for each run.
  Duration decode(const DecodeRun& run, std::int64_t step) {
    if (step == 0) pricer_.decode_run(run.loads, {}, run.steps_max, segments_);
    return whole_nanoseconds(elapsed(step + 1)) - whole_nanoseconds(elapsed(step));
  }

 private:
  model::FixedTime elapsed(std::int64_t steps) const {
    model::FixedTime sum{};
    for (std::size_t i = 0; i < segments_.size() && segments_[i].first_step < steps; ++i) {
      const std::int64_t end = i + 1 < segments_.size() ? std::min(steps, segments_[i + 1].first_step) : steps;
      sum += series_sum(segments_[i].first, segments_[i].slope, end - segments_[i].first_step);
    }
    return sum;
  }
  const model::StepPricer& pricer_;
  std::vector<model::DecodeSegment> segments_;
};

class Worker {
 public:
  Worker(const WorkerOptions& options, const Cluster& cluster)
      : options_(options),
        cluster_(cluster),
        clock_(cluster.settings().speed),
        prices_(*cluster.deployment().group_roles[options.group]->pricer),
        exchange_(options, cluster.settings().secret,
                  clock_.real(cluster.spec().engine.collective_timeout, Duration{200'000'000}), cluster.board()),
        executor_(clock_,
                  {.prefill = [this](const PrefillStep& s) { return prices_.prefill(s); },
                   .decode = [this](const DecodeRun& r, std::int64_t step) { return prices_.decode(r, step); },
                   .dp_ranks = static_cast<std::size_t>(cluster.deployment().group_roles[options.group]->plan.dp),
                   .rendezvous = &exchange_}),
        page_(static_cast<WorkerPage*>(map_memory(kPageFd, sizeof(WorkerPage)))) {}

  int run() {
    report(exchange_.listening());
    bool told_joined = false, told_gone = false;
    for (;;) {
      if (const std::int64_t begin = cluster_.board().begin_ns.load(); begin != 0)
        clock_.set_begin(steady_clock::time_point{std::chrono::nanoseconds(begin)});
      if (!take_orders()) return 0;
      exchange_.work();
      if (!told_joined && joining_ && exchange_.joined()) {
        told_joined = true;
        report(Joined{});
      }
      if (!told_gone && exchange_.broken() != Cause::none) {
        told_gone = true;
        report(PeerGone{exchange_.broken()});
      }
      if (options_.index == 0) step();
      wait();
    }
  }

 private:
  template <class T>
  void report(T said) {
    const std::string bytes = encode(WorkerReport{std::move(said)});
    const ssize_t sent = ::send(kControlFd, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    (void)sent;  // without its agent a worker ends
  }

  /// False when the agent is gone.
  bool take_orders() {
    static char buffer[1 << 18];
    for (;;) {
      const ssize_t count = ::recv(kControlFd, buffer, sizeof buffer, MSG_DONTWAIT);
      if (count < 0) return errno == EAGAIN || errno == EINTR;
      if (count == 0) return false;
      auto order = decode_order({buffer, static_cast<std::size_t>(count)});
      if (!order) return false;
      if (const auto* join = std::get_if<JoinWorkers>(&*order)) {
        joining_ = true;
        exchange_.join(join->workers);
      } else if (auto* run = std::get_if<RunOrder>(&*order)) {
        submit(run->step);
      } else if (const auto* interrupt = std::get_if<InterruptOrder>(&*order)) {
        executor_.interrupt(interrupt->op);
      } else if (const auto* abort = std::get_if<AbortOrder>(&*order)) {
        executor_.abort(abort->op);
      }
    }
  }

  void submit(const control::RunStep& run) {
    Step step{run.op, DecodeRun{run.loads, run.steps_max}};
    if (!run.items.empty()) step.work = PrefillStep{run.items, run.loads};
    const Status taken = executor_.submit(step);
    if (!taken) report(OpEnded{run.op, 0, taken.cause()});
  }

  void step() {
    std::array<ExecutorEvent, 4> events;
    for (std::size_t count = 0;;) {
      count = executor_.poll(events);
      // A boundary may have begun the next step, whose exchange begins now.
      exchange_.work();
      const auto [op, steps] = executor_.running();
      if (op.valid() && (page_->op.load() != op.v || page_->steps.load() != steps)) {
        page_->steps = steps;
        page_->at_ns = clock_.now().ns;
        page_->op = op.v;
        told_stalled_ = false;
      }
      for (std::size_t i = 0; i < count; ++i) {
        if (const auto* done = std::get_if<StepDone>(&events[i])) report(OpEnded{done->op, done->steps, Cause::none});
        else if (const auto* failed = std::get_if<StepFailed>(&events[i]))
          report(OpEnded{failed->op, failed->steps, failed->cause});
      }
      if (count == 0) break;
    }
    const auto since = exchange_.waiting_since();
    if (since && !told_stalled_ && steady_clock::now() - *since >= patience()) {
      told_stalled_ = true;
      report(Stalled{executor_.running().first});
    }
  }

  /// The other half is for asking whether the others' nodes are there.
  std::chrono::nanoseconds patience() const {
    return std::chrono::nanoseconds(clock_.real(cluster_.spec().network.retransmission_budget() / 2).v);
  }

  void wait() {
    auto until = options_.index == 0 ? clock_.real(executor_.next_due()) : LiveClock::Time::max();
    if (const auto since = exchange_.waiting_since(); since && !told_stalled_ && options_.index == 0)
      until = std::min(until, *since + patience());
    const auto left = std::min<std::chrono::nanoseconds>(until - steady_clock::now(), std::chrono::seconds(1));
    timespec timeout{};
    if (left.count() > 0) timeout = {left.count() / 1'000'000'000, left.count() % 1'000'000'000};
    pollfd fds[] = {{kControlFd, POLLIN, 0}, {exchange_.event_descriptor(), POLLIN, 0}};
    ::ppoll(fds, 2, &timeout, nullptr);
  }

  WorkerOptions options_;
  const Cluster& cluster_;
  LiveClock clock_;
  Prices prices_;
  WorkerExchange exchange_;
  inproc::PacedExecutor executor_;
  WorkerPage* page_;
  bool joining_ = false, told_stalled_ = false;
};

}  // namespace

int run_worker(const WorkerOptions& options, const config::FileReader& reader) {
  ::signal(SIGPIPE, SIG_IGN);
  const Cluster cluster = inherited_cluster(reader);
  Worker(options, cluster).run();
  return 0;
}

}  // namespace faultline::live
