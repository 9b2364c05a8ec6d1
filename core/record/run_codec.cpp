#include "core/record/run_codec.h"

#include <bit>

#include "core/record/codec.h"

namespace faultline::record {
namespace {

/// Reads or writes one value after another: the same list of members serves both.
template <bool kRead>
class Archive {
 public:
  explicit Archive(std::string& out) requires(!kRead) : encoder_(out) {}
  explicit Archive(std::string_view in) requires(kRead) : encoder_(in) {}

  template <class... T>
  void operator()(T&... values) {
    (one(values), ...);
  }
  bool done() const requires(kRead) { return encoder_.done(); }

 private:
  void one(std::string& s) {
    if constexpr (kRead) s = std::string(encoder_.bytes(encoder_.varint()));
    else encoder_.text(s);
  }
  void one(double& v) {
    auto bits = std::bit_cast<std::uint64_t>(v);
    whole(bits);
    v = std::bit_cast<double>(bits);
  }
  void whole(std::uint64_t& v) {
    if constexpr (kRead) v = encoder_.varint();
    else encoder_.varint(v);
  }
  template <class T>
  void one(std::vector<T>& v) {
    std::uint64_t n = v.size();
    whole(n);
    if constexpr (kRead) {
      v.clear();
      for (std::uint64_t i = 0; i < n; ++i) one(v.emplace_back());  // ends with CodecError when the data end
    } else {
      for (T& x : v) one(x);
    }
  }
  void one(RequestRecord& r) {
    (*this)(r.arrival, r.first_token, r.end, r.prompt_tokens, r.output_tokens, r.output_delivered, r.tokens_recomputed,
            r.tokens_lost, r.gap, r.migrations, r.instance, r.decode_group, r.slo_class, r.attempts, r.outcome, r.cause,
            r.hit_by);
  }
  void one(CapacityInterval& c) { (*this)(c.gpu, c.instance, c.from, c.to, c.usable, c.own, c.fault); }
  void one(FaultRecord& f) {
    FaultPhases& p = f.phases;
    (*this)(f.id, f.kind, f.target, f.at, f.reverted, f.applied, f.not_applied_reason, f.targeted_components,
            f.own_gpus, f.instances_direct, p.symptom, p.detect, p.decide, p.drain, p.reroute, p.replace, p.ready,
            p.fence, p.repair_state, p.degraded, p.rejoin, p.restore, p.first_token, f.kv_bytes_lost, f.recovery);
  }
  void one(CostModelUse& c) { (*this)(c.name, c.hardware, c.hash, c.software_date, c.extrapolated); }
  void one(CostModelUse::Extrapolated& e) { (*this)(e.op, e.share, e.why); }
  void one(FleetPart& p) {
    (*this)(p.name, p.model, p.instances, p.gpus, p.spare_gpus, p.prefill_nodes, p.decode_nodes, p.first_class);
  }
  void one(SpareTaken& t) { (*this)(t.at, t.instance, t.node); }
  void one(ThroughputBin& b) { (*this)(b.output_tokens, b.prefill_tokens); }
  template <class T>
  void one(T& v) {
    encoder_.value(v);
  }
  std::conditional_t<kRead, Decoder, Encoder> encoder_;
};

template <class A>
void archive(A& a, RunRecord& r) {
  SimulatorStats& s = r.stats;
  a(r.experiment, r.seed, r.begin, r.end, r.gpus, r.spare_gpus, r.prefill_nodes, r.decode_nodes, r.instances,
    r.slo_class_names, r.slo_ttft, r.slo_tpot, r.requests, r.capacity, r.faults, r.throughput, r.tokens_degraded,
    r.rebalances, r.rebalance_bytes, r.replica_bytes, r.replica_bytes_written, r.replica_resumes,
    r.replica_tokens_again, r.role_switches, r.prefix_cache.asked, r.prefix_cache.hit, r.prefix_cache.evicted,
    r.prefix_cache.lost, r.fleets, r.fleet_of, r.spares_taken, r.warnings, r.cost_model, s.wall_s, s.cpu_s, s.events,
    s.flows, s.controller_steps, s.decode_steps, s.peak_rss_bytes, s.log_hash, s.fidelity);
}

}  // namespace

std::string encode_run(const RunRecord& run) {
  std::string out;
  Archive<false> a(out);
  RunRecord copy = run;
  archive(a, copy);
  return out;
}

RunRecord decode_run(std::string_view bytes) {
  RunRecord run;
  Archive<true> a(bytes);
  archive(a, run);
  if (!a.done()) throw CodecError("bytes after the end of the record");
  return run;
}

}  // namespace faultline::record
