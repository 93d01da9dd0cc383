#include <signal.h>

#include <algorithm>
#include <array>
#include <functional>
#include <map>
#include <mutex>
#include <optional>
#include <set>

#include "app/bench/percentiles.h"
#include "app/bench/process_times.h"
#include "app/bench/task_text.h"
#include "app/bench/task_writers.h"
#include "app/bench/topic_reader.h"
#include "app/scratch/samples.h"
#include "bench/load/cases.h"
#include "core/failure.h"

namespace millrace::bench {

namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

constexpr int64_t kKeyCount = 240;
constexpr double kTasksPerSecond = 1000;
constexpr std::chrono::seconds kTakeoverLimit{60};
constexpr std::chrono::seconds kEvenLimit{90};
constexpr std::chrono::seconds kStopLimit{30};
constexpr std::chrono::hours kWriting{2};
// Even for so long: nothing is on its way any more.
constexpr std::chrono::seconds kSettled{2};

struct Blow {
    const char* name;
    int signal;
};
constexpr std::array<Blow, 3> kBlows{Blow{"kill -9", SIGKILL}, Blow{"SIGTERM", SIGTERM},
                                     Blow{"SIGSTOP", SIGSTOP}};

// Which shares (lanes or partitions) each of two processes has.
using Shares = std::array<std::set<int>, 2>;

// The two processes, one of which is hurt in turn.
struct Pair {
    std::array<MeasuredWorker, 2> processes;

    // A backend's port tells whose it is: it is that of a socket of the process.
    int owner_of(int64_t client_port) const {
        for (size_t i = 0; i < processes.size(); ++i) {
            if (ports[i].contains(static_cast<int>(client_port))) return static_cast<int>(i);
        }
        return -1;
    }
    void learn_ports() {
        for (size_t i = 0; i < processes.size(); ++i) {
            ports[i] = local_ports(processes[i].child().pid());
        }
    }

    std::array<std::set<int>, 2> ports{};
};

// Waits until both have half of all shares, for a while.
void await_even(const BenchGround& ground, Pair& pair, size_t share_count,
                const std::function<Shares()>& look) {
    const Clock::time_point begin = Clock::now();
    Clock::time_point even_since = Clock::now();
    Progressing waiting("until shares are even");
    while (Clock::now() - even_since < kSettled) {
        ground.pause(milliseconds(50));
        pair.learn_ports();
        for (MeasuredWorker& process : pair.processes) process.check();
        const Shares shares = look();
        const bool is_even =
            shares[0].size() == share_count / 2 && shares[1].size() == share_count / 2;
        if (!is_even) even_since = Clock::now();
        waiting.show(std::to_string(shares[0].size()) + " and " + std::to_string(shares[1].size()));
        if (Clock::now() - begin > kEvenLimit) {
            throw fatal("bench_unsound", "two processes did not come to share evenly");
        }
    }
}

void mend(const BenchGround& ground, MeasuredWorker& victim, int signal) {
    if (signal == SIGSTOP) {
        victim.child().signal(SIGCONT);
        return;
    }
    const Clock::time_point begin = Clock::now();
    while (!victim.child().exit_status() && Clock::now() - begin < kStopLimit) {
        ground.pause(milliseconds(10));
    }
    victim.child().kill_and_restart();
}

BenchRow row_of_times(const std::string& name, const std::vector<double>& times) {
    const Percentiles all = percentiles(times);
    return {.measure = name,
            .figures = {{"median ms", rounded(median(times), 0)},
                        {"worst ms", rounded(all.max, 0)},
                        {"repeats", static_cast<int64_t>(times.size())}}};
}

// Looks at records for the first one that somebody else published in a lane of the victim's.
class NextOwner {
  public:
    NextOwner(pg::Session& session) {
        for (int64_t n = 0; n < kKeyCount; ++n) {
            const std::string key = bench_key(n, kKeyCount);
            lane_by_key_[key] = static_cast<int>(
                session
                    .execute("SELECT millrace.lane_of($1, NULL)::integer", pg::Params().text(key))
                    .integer(0, 0));
        }
    }

    void see(const rd_kafka_message_t& record, Clock::time_point at) {
        const std::string key(static_cast<const char*>(record.key), record.key_len);
        const std::string sequence(header_of(record, "millrace-seq"));
        const size_t dot = sequence.find('.');
        if (dot == std::string::npos) return;
        const int publisher = std::stoi(sequence.substr(dot + 1));
        const std::lock_guard lock(mutex_);
        if (!is_armed_ || seen_at_ || publishers_.contains(publisher)) return;
        const auto lane = lane_by_key_.find(key);
        if (lane != lane_by_key_.end() && lanes_.contains(lane->second)) seen_at_ = at;
    }
    void arm(std::set<int> lanes, std::set<int> publishers) {
        const std::lock_guard lock(mutex_);
        lanes_ = std::move(lanes);
        publishers_ = std::move(publishers);
        seen_at_.reset();
        is_armed_ = true;
    }
    std::optional<Clock::time_point> seen_at() {
        const std::lock_guard lock(mutex_);
        return seen_at_;
    }

  private:
    std::map<std::string, int> lane_by_key_;
    std::mutex mutex_;
    bool is_armed_ = false;
    std::set<int> lanes_;
    std::set<int> publishers_;
    std::optional<Clock::time_point> seen_at_;
};

constexpr std::string_view kLanes = R"(
    SELECT l.lane::integer, l.publisher::integer, coalesce(a.client_port, -2)
    FROM millrace.relay_lanes l
    JOIN millrace.relay_publishers p ON p.number = l.publisher
    LEFT JOIN pg_stat_activity a ON a.pid = p.pid
    ORDER BY l.lane)";

constexpr std::string_view kPositions = R"(
    SELECT s.partition, s.owner_pid, s.next_offset, coalesce(a.client_port, -2)
    FROM millrace.positions s LEFT JOIN pg_stat_activity a ON a.pid = s.owner_pid
    ORDER BY s.partition)";

constexpr std::string_view kOffsets = R"(
    SELECT partition, coalesce(owner_pid, 0), next_offset FROM millrace.positions
    ORDER BY partition)";

double milliseconds_since(Clock::time_point begin, Clock::time_point end) {
    return std::chrono::duration<double, std::milli>(end - begin).count();
}

TaskWriters::Options long_writing(const Workspace& workspace) {
    return {.session = workspace.session_options(),
            .topic = workspace.topic(),
            .key_count = kKeyCount,
            .tasks_per_second = kTasksPerSecond,
            .writer_count = 2,
            .duration = kWriting};
}

[[noreturn]] void throw_no_owner(const Blow& blow) {
    throw fatal("bench_unsound",
                std::string("after ") + blow.name + " no other process went on within a minute");
}

void run_relays(const BenchGround& ground, const CaseOptions& options, const Emit& emit) {
    Workspace workspace(ground.config, {.projections = {}, .program = ground.program});
    pg::Session session(workspace.session_options());
    NextOwner next_owner(session);
    Pair pair{{MeasuredWorker(workspace.start_worker("relay-1", {})),
               MeasuredWorker(workspace.start_worker("relay-2", {}))}};
    TopicReader reader(workspace.kafka_options(), workspace.topic(), workspace.partition_count(),
                       workspace.reaper(),
                       [&next_owner](const rd_kafka_message_t& record, Clock::time_point at) {
                           next_owner.see(record, at);
                       });
    TaskWriters writers(long_writing(workspace));
    std::array<std::set<int>, 2> publishers;
    const auto look = [&] {
        Shares shares;
        publishers = {};
        const pg::Result rows = session.execute(kLanes);
        for (int i = 0; i < rows.row_count(); ++i) {
            const int owner = pair.owner_of(rows.integer(i, 2));
            if (owner < 0) continue;
            shares[static_cast<size_t>(owner)].insert(static_cast<int>(rows.integer(i, 0)));
            publishers[static_cast<size_t>(owner)].insert(static_cast<int>(rows.integer(i, 1)));
        }
        return shares;
    };
    const auto lane_count = static_cast<size_t>(
        session.execute("SELECT lane_count FROM millrace.installation").integer(0, 0));
    for (const Blow& blow : kBlows) {
        std::vector<double> times;
        for (int i = 0; i < options.repeat_count; ++i) {
            await_even(ground, pair, lane_count, look);
            const size_t victim = static_cast<size_t>(i % 2);
            next_owner.arm(look()[victim], publishers[victim]);
            const Clock::time_point begin = Clock::now();
            pair.processes[victim].child().signal(blow.signal);
            while (!next_owner.seen_at()) {
                if (Clock::now() - begin > kTakeoverLimit) throw_no_owner(blow);
                ground.pause(milliseconds(1));
            }
            times.push_back(milliseconds_since(begin, *next_owner.seen_at()));
            say(std::string("relay, ") + blow.name + ": " + std::to_string(times.back()) + " ms");
            mend(ground, pair.processes[victim], blow.signal);
        }
        emit(row_of_times(std::string("take-over of a relay, ") + blow.name, times));
    }
    for (MeasuredWorker& process : pair.processes) process.stop();
}

// Until some partition of the victim's has another owner and that one has applied something.
Clock::time_point await_applied(const BenchGround& ground, pg::Session& session,
                                const std::set<int>& partitions,
                                const std::set<int64_t>& victim_pids, const Blow& blow) {
    std::map<int, int64_t> offset_at_change;
    const Clock::time_point begin = Clock::now();
    for (;;) {
        const pg::Result rows = session.execute_prepared("offsets");
        const Clock::time_point now = Clock::now();
        for (int i = 0; i < rows.row_count(); ++i) {
            const int partition = static_cast<int>(rows.integer(i, 0));
            const int64_t pid = rows.integer(i, 1);
            if (!partitions.contains(partition) || pid == 0 || victim_pids.contains(pid)) continue;
            const auto [known, is_new] = offset_at_change.emplace(partition, rows.integer(i, 2));
            if (!is_new && rows.integer(i, 2) > known->second) return now;
        }
        if (now - begin > kTakeoverLimit) throw_no_owner(blow);
        ground.pause(milliseconds(1));
    }
}

void run_workers(const BenchGround& ground, const CaseOptions& options, const Emit& emit) {
    Workspace workspace(ground.config,
                        {.projections = {sample_text("orders.sql")}, .program = ground.program});
    pg::Session session(workspace.session_options());
    session.prepare("offsets", kOffsets);
    MeasuredWorker relay(workspace.start_worker("relay", {{"projections.enabled", "false"}}));
    const Workspace::Values values{{"relay.enabled", "false"}};
    Pair pair{{MeasuredWorker(workspace.start_worker("worker-1", values)),
               MeasuredWorker(workspace.start_worker("worker-2", values))}};
    TaskWriters writers(long_writing(workspace));
    std::array<std::set<int64_t>, 2> pids;
    const auto look = [&] {
        Shares shares;
        pids = {};
        const pg::Result rows = session.execute(kPositions);
        for (int i = 0; i < rows.row_count(); ++i) {
            const int owner = pair.owner_of(rows.integer(i, 3));
            if (owner < 0) continue;
            shares[static_cast<size_t>(owner)].insert(static_cast<int>(rows.integer(i, 0)));
            pids[static_cast<size_t>(owner)].insert(rows.integer(i, 1));
        }
        return shares;
    };
    const auto partition_count = static_cast<size_t>(workspace.partition_count());
    for (const Blow& blow : kBlows) {
        std::vector<double> times;
        for (int i = 0; i < options.repeat_count; ++i) {
            await_even(ground, pair, partition_count, look);
            const size_t victim = static_cast<size_t>(i % 2);
            const std::set<int> partitions = look()[victim];
            const Clock::time_point begin = Clock::now();
            pair.processes[victim].child().signal(blow.signal);
            const Clock::time_point end =
                await_applied(ground, session, partitions, pids[victim], blow);
            times.push_back(milliseconds_since(begin, end));
            say(std::string("worker, ") + blow.name + ": " + std::to_string(times.back()) + " ms");
            mend(ground, pair.processes[victim], blow.signal);
        }
        emit(row_of_times(std::string("take-over of a worker, ") + blow.name, times));
    }
    for (MeasuredWorker& process : pair.processes) process.stop();
    relay.stop();
}

}  // namespace

void run_takeover(const BenchGround& ground, const CaseOptions& options, const Emit& emit) {
    run_relays(ground, options, emit);
    run_workers(ground, options, emit);
}

}  // namespace millrace::bench
