// The suite is only worth what it catches: each broken transport must fail the clauses named here, and a transport that
// breaks nothing must fail none.
#include "tests/contract/negative/broken_transports.h"

#include "tests/contract/inproc_world.h"

namespace faultline::contract {
namespace {

template <class Broken>
bool fails(const std::string& name, std::string* why = nullptr) {
  const Clause<TransportWorld>* clause = find_clause(transport_clauses(), name);
  if (!clause) {
    ADD_FAILURE() << "no clause " << name;
    return false;
  }
  DecoratedInprocWorld<Broken> world([](Transport& inner, const Clock&) { return std::make_unique<Broken>(inner); });
  Verdict verdict;
  clause->run(world, verdict);
  if (why) *why = verdict.text();
  return !verdict.ok();
}

template <class Broken>
void must_fail(const std::vector<std::string>& clauses) {
  for (const std::string& name : clauses) EXPECT_TRUE(fails<Broken>(name)) << name << " did not notice";
}

TEST(ContractSuite, CatchesAnEarlyNotify) { must_fail<NotifiesEarly>({"a_batch_is_visible_before_its_notify"}); }
TEST(ContractSuite, CatchesASecondCompletion) {
  must_fail<CompletesTwice>({"posting_while_handling_an_event_is_safe", "random_operations_match_a_reference_model"});
}
TEST(ContractSuite, CatchesAForgottenCompletion) {
  must_fail<ForgetsACompletion>(
      {"limits_are_honoured_and_one_more_is_refused", "random_operations_match_a_reference_model"});
}
TEST(ContractSuite, CatchesEventsAfterEndpointDown) {
  must_fail<DeliversAfterDown>(
      {"close_fails_the_rest_and_then_reports_down", "a_broken_route_fails_every_operation_within_the_budget"});
}
TEST(ContractSuite, CatchesWritesPastASpan) {
  must_fail<WritesPastASpan>({"bytes_arrive_at_the_right_place", "random_operations_match_a_reference_model"});
}
TEST(ContractSuite, CatchesACompletionAtPost) {
  must_fail<CompletesOnPost>({"bytes_arrive_at_the_right_place", "an_operation_posted_on_a_broken_route_fails_too",
                              "random_operations_match_a_reference_model"});
}
TEST(ContractSuite, CatchesASecondNotify) {
  must_fail<NotifiesTwice>({"a_notify_arrives_once", "random_operations_match_a_reference_model"});
}
TEST(ContractSuite, CatchesEventsLostInAShortBuffer) {
  must_fail<LosesWhatDoesNotFit>({"a_short_poll_buffer_loses_nothing"});
}
TEST(ContractSuite, CatchesATransportThatNeverGivesUp) {
  must_fail<NeverGivesUp>({"a_broken_route_fails_every_operation_within_the_budget",
                           "an_operation_posted_on_a_broken_route_fails_too", "a_peer_that_dies_fails_its_operations"});
}
TEST(ContractSuite, CatchesRangesThatAreCutInsteadOfRefused) {
  must_fail<ClampsRanges>({"a_span_out_of_range_is_refused_and_writes_nothing"});
}
TEST(ContractSuite, AcceptsADecoratorThatBreaksNothing) {
  for (const Clause<TransportWorld>& clause : transport_clauses()) {
    std::string why;
    EXPECT_FALSE(fails<PassingTransport>(clause.name, &why)) << clause.name << ": " << why;
  }
}

}  // namespace
}  // namespace faultline::contract
