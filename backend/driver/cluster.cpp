#include "backend/driver/cluster.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <new>
#include <nlohmann/json.hpp>
#include <stdexcept>

#include "core/base/assert.h"
#include "core/base/hash.h"

namespace faultline::live {
namespace {

[[noreturn]] void fail(const char* what) {
  throw std::runtime_error(fmt::format("{}: {}", what, std::strerror(errno)));
}

std::string read_whole(int fd) {
  struct stat status {};
  if (::fstat(fd, &status) != 0) fail("cannot read the cluster's settings");
  std::string text(static_cast<std::size_t>(status.st_size), '\0');
  if (::pread(fd, text.data(), text.size(), 0) != static_cast<ssize_t>(text.size()))
    fail("cannot read the cluster's settings");
  return text;
}

}  // namespace

std::string to_text(const ClusterSettings& s) {
  return nlohmann::json{{"experiment", s.experiment}, {"secret", s.secret}, {"program", s.program},      {"out", s.out},
                        {"speed", s.speed},           {"scale", s.scale},   {"first_port", s.first_port}}
      .dump();
}

ClusterSettings settings_from(const std::string& text) {
  try {
    const auto json = nlohmann::json::parse(text);
    ClusterSettings s;
    s.experiment = json.at("experiment");
    s.secret = json.at("secret");
    s.program = json.at("program");
    s.out = json.at("out");
    s.speed = json.at("speed");
    s.scale = json.at("scale");
    s.first_port = json.at("first_port");
    return s;
  } catch (const nlohmann::json::exception& e) {
    throw std::runtime_error(fmt::format("not the settings of a cluster: {}", e.what()));
  }
}

transport::Fd make_memory(const char* name, std::size_t size) {
  transport::Fd fd(::memfd_create(name, MFD_CLOEXEC));
  if (!fd || ::ftruncate(fd.get(), static_cast<off_t>(size)) != 0) fail("cannot make shared memory");
  return fd;
}

void* map_memory(int fd, std::size_t size) {
  void* at = ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (at == MAP_FAILED) fail("cannot map shared memory");
  return at;
}

Board* map_board(int fd) {
  static_assert(std::atomic<std::int64_t>::is_always_lock_free && std::atomic<GpuState>::is_always_lock_free);
  return static_cast<Board*>(map_memory(fd, sizeof(Board)));  // all zeros is a board's beginning
}

Cluster::Cluster(ClusterSettings settings, Board* board, const config::FileReader& reader)
    : settings_(std::move(settings)),
      board_(board),
      spec_(experiment::load(settings_.experiment, "the cluster's experiment", {}, reader)) {
  deployment_ = experiment::deploy(spec_);
  routers_ = static_cast<std::uint32_t>(deployment_->placement.routers.size());
  instances_ = static_cast<std::uint32_t>(deployment_->instances.size());
  nodes_ = deployment_->topology.layout.nodes;
  nodes_from_ = routers_ + 1 + instances_;
  for (const auto& i : deployment_->fleet.instances) deployment_->router.accepting.push_back(i.serving);
}

std::uint32_t Cluster::member_of(Address a) const {
  switch (a.role) {
    case Role::router: return a.index;
    case Role::fleet: return routers_;
    case Role::instance: return routers_ + 1 + a.index;
    case Role::node: return nodes_from_ + a.index;
    case Role::client: return nodes_from_ + nodes_;
  }
  return 0;
}

Address Cluster::address_of(std::uint32_t member) const {
  if (member < routers_) return {Role::router, member};
  if (member == routers_) return {Role::fleet, 0};
  if (member < nodes_from_) return {Role::instance, member - routers_ - 1};
  if (member < nodes_from_ + nodes_) return {Role::node, member - nodes_from_};
  return {Role::client, 0};
}

messenger::TcpMessengerSettings Cluster::messenger_settings(Address self, std::uint64_t incarnation,
                                                            const LiveClock& clock) const {
  const control::DetectorSpec& d = spec_.detector;
  messenger::TcpMessengerSettings s;
  s.self = self;
  s.incarnation = incarnation;
  s.secret = settings_.secret;
  const std::uint32_t member = member_of(self);
  s.listen.port = static_cast<std::uint16_t>(settings_.first_port + member);
  s.find = [this](Address peer) -> std::optional<messenger::Endpoint> {
    const std::uint32_t m = member_of(peer);
    if (m >= members() || address_of(m) != peer) return std::nullopt;
    return messenger::Endpoint{"127.0.0.1", static_cast<std::uint16_t>(settings_.first_port + m)};
  };
  s.heartbeat = clock.real(d.heartbeat_period);
  s.lost_after = clock.real(d.heartbeat_period * d.heartbeats_missed);
  s.suspect_after = clock.real(d.heartbeat_period * std::max(1, d.heartbeats_missed - 1));
  // The beats of the members are spread over the period by the seed, as in the simulator.
  const auto period = static_cast<std::uint64_t>(d.heartbeat_period.v);
  s.phase = clock.real(Duration{static_cast<std::int64_t>(mix64(hash_combine(spec_.seed, member)) % period)});
  s.reconnect = std::min(s.heartbeat / 4 + Duration{1}, Duration{20'000'000});
  return s;
}

Cluster inherited_cluster(const config::FileReader& reader) {
  return Cluster(settings_from(read_whole(kSettingsFd)), map_board(kBoardFd), reader);
}

pid_t start_process(const std::string& program, const std::vector<std::string>& arguments, const std::vector<int>& fds,
                    bool own_group) {
  std::vector<char*> argv;
  argv.push_back(const_cast<char*>(program.c_str()));
  for (const auto& a : arguments) argv.push_back(const_cast<char*>(a.c_str()));
  argv.push_back(nullptr);
  const pid_t parent = ::getpid();
  const auto first_free = kSettingsFd + static_cast<int>(fds.size());
  const pid_t child = ::fork();
  if (child < 0) fail("cannot start a process");
  if (child > 0) return child;
  // Only what may follow fork() in a process with threads, until execv().
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (::getppid() != parent) ::_exit(1);  // it died before the line above
  if (own_group) ::setpgid(0, 0);
  sigset_t none;
  ::sigemptyset(&none);
  ::sigprocmask(SIG_SETMASK, &none, nullptr);
  int spare[8];
  for (std::size_t i = 0; i < fds.size() && i < 8; ++i)
    spare[i] = fds[i] < 0 ? -1 : ::fcntl(fds[i], F_DUPFD, first_free);
  for (std::size_t i = 0; i < fds.size() && i < 8; ++i) {
    if (spare[i] >= 0) ::dup2(spare[i], kSettingsFd + static_cast<int>(i));
    else ::close(kSettingsFd + static_cast<int>(i));
  }
  for (std::size_t i = 0; i < fds.size() && i < 8; ++i) {
    if (spare[i] >= 0) ::close(spare[i]);
  }
  ::execv(program.c_str(), argv.data());
  ::_exit(127);
}

}  // namespace faultline::live
