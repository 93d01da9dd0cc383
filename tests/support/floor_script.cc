#include "tests/support/floor_script.h"

#include <algorithm>
#include <chrono>
#include <numeric>
#include <stdexcept>
#include <string_view>
#include <thread>
#include <vector>

#include "tests/support/eventually.h"

namespace millrace::test {

namespace {

// More than the sweeping control needs for its next sweep.
constexpr int kLastRoundCount = 6;

constexpr std::string_view kUpdatePending = R"(
    UPDATE millrace.pending_tasks
       SET tenant_id = 'changed')";
constexpr std::string_view kWaits = R"(
    SELECT
      FROM pg_locks
     WHERE pid = $1 AND NOT granted)";
constexpr std::string_view kXid = "SELECT pg_current_xact_id()";
constexpr std::string_view kSnapshot = "SELECT pg_current_snapshot()";

uint64_t new_xid(pg::Session& session) {
    return static_cast<uint64_t>(session.execute(kXid).integer(0, 0));
}

Snapshot snapshot(pg::Session& session) {
    return Snapshot::from_binary(session.execute(kSnapshot).bytes(0, 0));
}

std::vector<int16_t> all_lanes() {
    std::vector<int16_t> lanes(12);
    std::iota(lanes.begin(), lanes.end(), int16_t{0});
    return lanes;
}

}  // namespace

FloorScript::Writer::Writer(FloorScript& script, const std::string& key)
    : script_(script), session_(script.run_.database().connect()), key_(key) {
    begin();
}

void FloorScript::Writer::begin() {
    session_.execute("BEGIN ISOLATION LEVEL READ COMMITTED");
    lock_key(session_, key_);
    ++script_.own_xid_count_;
}

int64_t FloorScript::Writer::insert(int count) {
    return write_tasks(script_.run_, session_, key_, count, Shape::kValues);
}

void FloorScript::Writer::commit() { session_.commit(); }

FloorScript::FloorScript(Database& database, const MakeRule& make_rule)
    : run_(database),
      publisher_(run_, 0, make_rule),
      second_(run_, 1, make_rule),
      control_(database.connect()) {
    publisher_.take_lanes(all_lanes());
    first_snapshot_ = snapshot(control_);
    first_xid_ = new_xid(control_);
}

FloorScript::Writer FloorScript::open_writer(int16_t lane) {
    return {*this, run_.keys(lane).front()};
}

int64_t FloorScript::commit_tasks(int16_t lane, int count) {
    Writer writer = open_writer(lane);
    const int64_t id = writer.insert(count);
    writer.commit();
    return id;
}

void FloorScript::pass_traffic(int round_count) {
    for (int i = 0; i < round_count; ++i) {
        commit_tasks(kBusyLane);
        probe();
        claim();
    }
}

ClaimResult FloorScript::claim(const ClaimOptions& options) {
    ++own_xid_count_;
    return publisher_.claim(options);
}

ClaimResult FloorScript::claim_behind_an_update() {
    pg::Session operator_session = run_.database().connect();
    operator_session.execute("BEGIN");
    operator_session.execute(kUpdatePending);
    ++own_xid_count_;

    ClaimResult result;
    std::jthread thread([&] { result = claim(); });
    const bool waits = eventually(std::chrono::seconds(2), [this] {
        const pg::Params pid = pg::Params().int4(publisher_.backend_pid());
        return control_.execute(kWaits, pid).row_count() > 0;
    });
    operator_session.commit();
    thread.join();
    if (!waits) throw std::runtime_error("the claim did not wait for the operator");
    return result;
}

bool FloorScript::probe() { return publisher_.probe(); }

void FloorScript::move_to_second(int16_t lane) { move(lane, publisher_, second_); }

void FloorScript::move_back(int16_t lane) { move(lane, second_, publisher_); }

void FloorScript::move(int16_t lane, ModelPublisher& from, ModelPublisher& to) {
    own_xid_count_ += 2;
    from.give_lanes({lane});
    to.take_lanes({lane});
}

Verdict FloorScript::finish() {
    for (int i = 0; i < kLastRoundCount; ++i) {
        probe();
        claim();
    }
    return run_.verdict();
}

// A transaction of somebody else that was seen running and ends makes any rule with late entries
// look again from an older floor, which can save a wrong one.
bool FloorScript::was_disturbed() {
    const Snapshot last_snapshot = snapshot(control_);
    const bool someone_ended =
        std::any_of(first_snapshot_.xip.begin(), first_snapshot_.xip.end(),
                    [&](uint64_t xid) { return last_snapshot.is_finished(xid); });
    return someone_ended || new_xid(control_) - first_xid_ - 1 != own_xid_count_;
}

}  // namespace millrace::test
