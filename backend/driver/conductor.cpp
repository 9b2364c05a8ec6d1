#include "backend/driver/conductor.h"

#include <fmt/format.h>
#include <poll.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include <algorithm>
#include <thread>

#include "backend/transport/net.h"
#include "core/experiment/fleets.h"
#include "core/experiment/request_of.h"

namespace faultline::live {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

constexpr std::chrono::seconds kStartMax{120};
constexpr std::chrono::seconds kStopMax{3};
constexpr const char* kRoles[] = {"client", "router", "fleet", "instance", "node"};

std::string new_secret() {
  const auto id = transport::random_value<std::array<std::uint8_t, 32>>();
  std::string text;
  for (const std::uint8_t byte : id) text += fmt::format("{:02x}", byte);
  return text;
}

bool is_free(std::uint16_t port) {
  try {
    transport::listen_tcp(*transport::parse_ipv4("127.0.0.1", port));
    return true;
  } catch (const std::runtime_error&) {
    return false;
  }
}

/// A row of free ports below those that the system gives away by itself (32768 on).
std::uint16_t free_ports(std::uint32_t count) {
  constexpr std::uint32_t kFrom = 10'000, kTo = 32'000;
  std::uint32_t first = kFrom + transport::random_value<std::uint32_t>() % (kTo - kFrom);
  for (std::uint32_t tries = 0, found = 0; tries < 4 * (kTo - kFrom); ++tries) {
    if (first + count > kTo) first = kFrom, found = 0;
    if (is_free(static_cast<std::uint16_t>(first + found))) {
      if (++found == count) return static_cast<std::uint16_t>(first);
    } else {
      first += found + 1;
      found = 0;
    }
  }
  throw std::runtime_error(fmt::format("no {} free TCP ports in a row between {} and {}", count, kFrom, kTo));
}

}  // namespace

Conductor::Conductor(const experiment::ExperimentSpec& spec, const std::string& resolved, const LiveOptions& options,
                     const config::FileReader& reader)
    : options_(options),
      reader_(reader),
      board_fd_(make_memory("cluster board", sizeof(Board))),
      clock_(options.speed),
      truth_(spec.seed) {
  board_ = map_board(board_fd_.get());
  experiment::needs_one_fleet(spec, "a live run");
  ClusterSettings settings;
  settings.experiment = resolved;
  settings.secret = new_secret();
  settings.program = options.program;
  settings.out = options.out;
  settings.speed = options.speed;
  settings.scale = options.scale;
  cluster_ = std::make_unique<Cluster>(settings, board_, reader);
  const auto& d = cluster_->deployment();
  config::Diagnostics diagnostics;
  fault::check_supported(d.faults, *this, diagnostics);
  if (spec.fleet.restart_unit == control::RestartUnit::rank) {
    diagnostics.error(spec.fleet_mark,
                      "a live run cannot restart single ranks: one process holds a node's ranks of a group",
                      "use restart_unit: ep_group, role or instance");
  }
  if (spec.recovery.keeps_survivors()) {
    diagnostics.error(spec.fleet_mark,
                      "a live run cannot go on with the survivors of a group: its workers do not move experts",
                      "use recovery.policy: restart, spare_node or spare_instance");
  }
  if (spec.recovery.replicate_kv.enabled || spec.recovery.policy == control::RecoveryAction::role_switch) {
    diagnostics.error(
        spec.fleet_mark, "a live run has neither copies of KV on neighbours nor groups that change role",
        "leave out recovery.replicate_kv, and use recovery.policy: restart, spare_node or spare_instance");
  }
  if (spec.router.retry.migrate) {
    diagnostics.error(spec.fleet_mark,
                      "a live run cannot migrate requests: its routers do not see the tokens that pass",
                      "leave out router.retry.migrate");
  }
  if (spec.experts.popularity.kind != model::PopularityKind::uniform) {
    diagnostics.error(spec.fleet_mark, "a live run's exchange carries the same tokens to every expert",
                      "leave out experts.popularity");
  }
  diagnostics.throw_if_any();
  if (cluster_->members() > kMembersMax || cluster_->nodes() > kNodesMax) {
    throw std::runtime_error(
        fmt::format("{} processes on one host are too many; choose a smaller topology", cluster_->members()));
  }
  settings.first_port = free_ports(cluster_->members());
  cluster_ = std::make_unique<Cluster>(settings, board_, reader);
  const std::string text = to_text(settings);
  settings_fd_ = make_memory("cluster settings", text.size());
  if (::pwrite(settings_fd_.get(), text.data(), text.size(), 0) != static_cast<ssize_t>(text.size())) {
    throw std::runtime_error("cannot write the cluster's settings");
  }
  source_ = workload::make_source(cluster_->spec().workload, cluster_->spec().seed, reader, diagnostics);
  diagnostics.throw_if_any();
}

Conductor::~Conductor() { stop_all(); }

// ---- processes
// --------------------------------------------------------------------------------------------------------

void Conductor::start(Address who) {
  const std::uint32_t member = cluster_->member_of(who);
  board_->ready[member] = Ready::no;
  const std::uint32_t incarnation = board_->starts[member]++;
  Process& process = processes_[who];
  process = {who, 0, false};
  ++run_.processes;
  process.pid = start_process(options_.program,
                              {"cluster", "member", "--role", kRoles[static_cast<std::size_t>(who.role)], "--index",
                               std::to_string(who.index), "--incarnation", std::to_string(incarnation)},
                              {settings_fd_.get(), board_fd_.get()}, true);
}

void Conductor::wait_for(Ready ready, const char* what) {
  const auto end = steady_clock::now() + kStartMax;
  for (;;) {
    std::uint32_t missing = 0;
    for (const auto& [who, process] : processes_) missing += board_->ready[cluster_->member_of(who)].load() < ready;
    if (missing == 0) return;
    reap(false);
    if (options_.progress && !options_.progress(Instant{0}, 0, 0)) {
      run_.interrupted = true;
      return;
    }
    if (steady_clock::now() > end)
      throw std::runtime_error(fmt::format("{} of {} processes do not {}", missing, processes_.size(), what));
    std::this_thread::sleep_for(milliseconds(2));
  }
}

void Conductor::start_all() {
  messenger_ = std::make_unique<messenger::TcpMessenger>(cluster_->messenger_settings({Role::client, 0}, 1, clock_));
  for (std::uint32_t m = 0; m + 1 < cluster_->members(); ++m) {
    const Address who = cluster_->address_of(m);
    if (who.role != Role::instance) start(who);  // leaders are started by the agent of their node
  }
  wait_for(Ready::listening, "listen");
  board_->go = 1;
  if (!run_.interrupted) wait_for(Ready::serving, "start their workers");
}

void Conductor::end_process(Process& process, int signal) {
  if (process.pid == 0) return;
  ::kill(-process.pid, signal);  // with its children: a process group each
  if (signal != SIGKILL) return;
  ::waitpid(process.pid, nullptr, 0);
  process.pid = 0;
}

void Conductor::stop_all() {
  board_->over = 1;
  for (auto& [who, process] : processes_) {
    if (process.pid != 0 && process.stopped) end_process(process, SIGKILL);
    else if (process.pid != 0) ::kill(process.pid, SIGTERM);  // its children end with it
  }
  const auto end = steady_clock::now() + kStopMax;
  const auto runs = [](const auto& entry) { return entry.second.pid != 0; };
  while (std::any_of(processes_.begin(), processes_.end(), runs) && steady_clock::now() < end) {
    reap(true);
    std::this_thread::sleep_for(milliseconds(1));
  }
  for (auto& [who, process] : processes_) end_process(process, SIGKILL);
}

void Conductor::reap(bool expected) {
  for (auto& [who, process] : processes_) {
    if (process.pid == 0) continue;
    int status = 0;
    if (::waitpid(process.pid, &status, WNOHANG) != process.pid) continue;
    ::kill(-process.pid, SIGKILL);  // what it has started and left
    process.pid = 0;
    if (expected) continue;
    throw std::runtime_error(fmt::format(
        "the process of {} {} ended by itself ({} {})", kRoles[static_cast<std::size_t>(who.role)], who.index,
        WIFSIGNALED(status) ? "signal" : "status", WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status)));
  }
}

// ---- clients
// ----------------------------------------------------------------------------------------------------------

void Conductor::arrive() {
  const Instant t = clock_.now();
  const control::RequestArrived request =
      experiment::request_of(RequestId{static_cast<std::uint32_t>(run_.arrivals.size())}, next_);
  run_.arrivals.push_back({t, request});
  more_ = source_->next(next_);
  for (std::uint32_t k = 0; k < cluster_->routers(); ++k) {  // clients spread over the routers that answer
    const std::uint32_t r = (next_router_ + k) % cluster_->routers();
    if (routers_lost_.contains(r)) continue;
    const std::string bytes = encode(Packet{Request{request}});
    if (!messenger_->send({Role::router, r}, std::as_bytes(std::span(bytes.data(), bytes.size())))) continue;
    next_router_ = (r + 1) % cluster_->routers();
    open_[request.request] = r;
    return;
  }
  run_.lost.push_back({t, request.request});
  ++done_;
}

void Conductor::lose_router(std::uint32_t router) {
  routers_lost_.insert(router);
  for (auto it = open_.begin(); it != open_.end();) {
    if (it->second == router) {
      run_.lost.push_back({clock_.now(), it->first});
      ++done_;
      it = open_.erase(it);
    } else {
      ++it;
    }
  }
}

void Conductor::take_answers() {
  std::array<MessengerEvent, 64> events;
  for (std::size_t count = 0; (count = messenger_->poll(events)) > 0;) {
    for (std::size_t i = 0; i < count; ++i) {
      if (const auto* message = std::get_if<MessageReceived>(&events[i])) {
        const auto packet =
            decode_packet({reinterpret_cast<const char*>(message->payload.data()), message->payload.size()});
        const auto* answer = packet ? std::get_if<Answer>(&*packet) : nullptr;
        if (answer != nullptr && open_.erase(answer->request) > 0) ++done_;
      } else if (const auto* lost = std::get_if<PeerLost>(&events[i])) {
        lose_router(lost->peer.index);
      } else if (const auto* back = std::get_if<PeerBack>(&events[i])) {
        routers_lost_.erase(back->peer.index);
      }
    }
  }
}

// ---- the run
// ----------------------------------------------------------------------------------------------------------

LiveRun Conductor::run() {
  const auto began = steady_clock::now();
  start_all();
  if (!run_.interrupted) loop();
  stop_all();
  run_.truth = truth_.text();
  run_.wall_s = std::chrono::duration<double>(steady_clock::now() - began).count();
  for (const int who : {RUSAGE_SELF, RUSAGE_CHILDREN}) {
    rusage used{};
    ::getrusage(who, &used);
    run_.cpu_s += static_cast<double>(used.ru_utime.tv_sec + used.ru_stime.tv_sec) +
                  static_cast<double>(used.ru_utime.tv_usec + used.ru_stime.tv_usec) * 1e-6;
  }
  run_.exchanges = board_->exchanges;
  run_.exchanges_wrong = board_->exchanges_wrong;
  run_.kv_pushes = board_->kv_pushes;
  run_.kv_bytes = board_->kv_bytes;
  run_.kv_wrong = board_->kv_wrong;
  return std::move(run_);
}

void Conductor::loop() {
  const auto begin = steady_clock::now() + milliseconds(50);
  board_->begin_ns = std::chrono::duration_cast<std::chrono::nanoseconds>(begin.time_since_epoch()).count();
  clock_.set_begin(begin);
  messenger_->set_beat_base(begin);
  for (std::uint32_t r = 0; r < cluster_->routers(); ++r) messenger_->watch({Role::router, r});
  for (std::uint32_t f = 0; f < cluster_->deployment().faults.size(); ++f) {
    const auto& fault = cluster_->deployment().faults[f];
    for (const auto& t : fault.transitions(std::get<Instant>(fault.trigger)))
      at(t.at, [this, f, active = t.active] { change(f, active); });
  }
  const Instant limit = cluster_->spec().end ? Instant{cluster_->spec().end->v} : kNever;
  more_ = source_->next(next_);
  auto told = steady_clock::now();
  for (;;) {
    take_answers();
    while (!due_.empty() && due_.begin()->first.first <= clock_.now()) {
      const auto what = std::move(due_.begin()->second);
      due_.erase(due_.begin());
      what();
    }
    while (more_ && next_.at <= clock_.now()) arrive();
    if ((!more_ && open_.empty()) || clock_.now() >= limit) break;
    if (steady_clock::now() - told > milliseconds(100)) {
      told = steady_clock::now();
      reap(false);
      if (options_.progress && !options_.progress(clock_.now(), run_.arrivals.size(), done_)) {
        run_.interrupted = true;
        break;
      }
    }
    Time until = told + milliseconds(110);
    if (more_) until = std::min(until, clock_.real(next_.at));
    if (!due_.empty()) until = std::min(until, clock_.real(due_.begin()->first.first));
    const auto left = std::max<std::chrono::nanoseconds>(until - steady_clock::now(), std::chrono::nanoseconds(0));
    const timespec timeout{left.count() / 1'000'000'000, left.count() % 1'000'000'000};
    pollfd fd{messenger_->event_descriptor(), POLLIN, 0};
    ::ppoll(&fd, 1, &timeout, nullptr);
  }
  run_.end = std::min(limit, clock_.now());
}

}  // namespace faultline::live
