#include <signal.h>

#include <array>
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

// What one of two processes has: its shares, which are lanes or partitions, and as whom it holds
// them: the numbers of its publishers, the pids of its sessions.
struct Holding {
    std::set<int> shares;
    std::set<int64_t> holders;
};

// Each share, as whom it is held, and the port of the session that holds it: null if there is none
// any more.
constexpr std::string_view kLanes = R"(
    SELECT l.lane::integer, l.publisher::integer, a.client_port
    FROM millrace.relay_lanes l
    JOIN millrace.relay_publishers p ON p.number = l.publisher
    LEFT JOIN pg_stat_activity a ON a.pid = p.pid
    ORDER BY l.lane)";

constexpr std::string_view kPartitions = R"(
    SELECT s.partition, s.owner_pid, a.client_port
    FROM millrace.positions s LEFT JOIN pg_stat_activity a ON a.pid = s.owner_pid
    ORDER BY s.partition)";

constexpr std::string_view kOffsets = R"(
    SELECT partition, coalesce(owner_pid, 0), next_offset FROM millrace.positions
    ORDER BY partition)";

// Two processes that share the work, one of which is hurt in turn.
class Pair {
  public:
    // `look` is one of the statements above.
    Pair(pg::Session& session, std::string_view look, MeasuredWorker first, MeasuredWorker second)
        : session_(session),
          look_(look),
          server_port_(static_cast<int>(
              session.execute("SELECT inet_server_port()").integer(0, 0))),
          processes_{std::move(first), std::move(second)} {}

    // Waits until both have had half of the shares for a while; returns what each has.
    std::array<Holding, 2> await_even(const BenchGround& ground, size_t share_count) {
        const Clock::time_point begin = Clock::now();
        Clock::time_point even_since = Clock::now();
        Progressing waiting("until shares are even");
        for (;;) {
            ground.pause(milliseconds(50));
            for (MeasuredWorker& process : processes_) process.check();
            std::array<Holding, 2> now = holdings();
            const std::array<size_t, 2> counts{now[0].shares.size(), now[1].shares.size()};
            const bool is_even = counts[0] == share_count / 2 && counts[1] == share_count / 2;
            if (!is_even) even_since = Clock::now();
            if (Clock::now() - even_since >= kSettled) return now;
            waiting.show(std::to_string(counts[0]) + " and " + std::to_string(counts[1]));
            if (Clock::now() - begin > kEvenLimit) {
                throw fatal("bench_unsound", "two processes did not come to share evenly");
            }
        }
    }

    void strike(size_t victim, int signal) { processes_[victim].child().signal(signal); }

    void mend(const BenchGround& ground, size_t victim, int signal) {
        Child& child = processes_[victim].child();
        if (signal == SIGSTOP) {
            child.signal(SIGCONT);
            return;
        }
        const Clock::time_point begin = Clock::now();
        while (!child.exit_status() && Clock::now() - begin < kStopLimit) {
            ground.pause(milliseconds(10));
        }
        child.kill_and_restart();
    }

    void stop() {
        for (MeasuredWorker& process : processes_) process.stop();
    }

  private:
    // A backend's port tells whose it is: it is that of a socket of the process.
    std::array<Holding, 2> holdings() {
        std::array<std::set<int>, 2> ports;
        for (size_t i = 0; i < ports.size(); ++i) {
            ports[i] = local_ports(processes_[i].child().pid(), server_port_);
        }
        std::array<Holding, 2> all;
        const pg::Result rows = session_.execute(look_);
        for (int row = 0; row < rows.row_count(); ++row) {
            if (rows.is_null(row, 2)) continue;
            for (size_t i = 0; i < all.size(); ++i) {
                if (!ports[i].contains(static_cast<int>(rows.integer(row, 2)))) continue;
                all[i].shares.insert(static_cast<int>(rows.integer(row, 0)));
                all[i].holders.insert(rows.integer(row, 1));
            }
        }
        return all;
    }

    pg::Session& session_;
    const std::string_view look_;
    const int server_port_;
    std::array<MeasuredWorker, 2> processes_;
};

// Looks at records for the first one that another publisher published in a lane of the victim's.
class NextPublisher {
  public:
    explicit NextPublisher(pg::Session& session) {
        for (int64_t n = 0; n < kKeyCount; ++n) {
            const std::string key = bench_key(n, kKeyCount);
            lane_by_key_[key] = static_cast<int>(
                session
                    .execute("SELECT millrace.lane_of($1, NULL)::integer", pg::Params().text(key))
                    .integer(0, 0));
        }
    }

    void arm(const Holding& victim) {
        const std::lock_guard lock(mutex_);
        victim_ = victim;
        seen_at_.reset();
    }
    // On the reader's thread.
    void see(const rd_kafka_message_t& record, Clock::time_point at) {
        const std::string key(static_cast<const char*>(record.key), record.key_len);
        const std::string sequence(header_of(record, "millrace-seq"));
        const size_t dot = sequence.find('.');
        if (dot == std::string::npos) return;
        const int publisher = std::stoi(sequence.substr(dot + 1));
        const std::lock_guard lock(mutex_);
        if (!victim_ || seen_at_ || victim_->holders.contains(publisher)) return;
        const auto lane = lane_by_key_.find(key);
        if (lane != lane_by_key_.end() && victim_->shares.contains(lane->second)) seen_at_ = at;
    }
    std::optional<Clock::time_point> seen_at() {
        const std::lock_guard lock(mutex_);
        return seen_at_;
    }

  private:
    std::map<std::string, int> lane_by_key_;
    std::mutex mutex_;
    std::optional<Holding> victim_;
    std::optional<Clock::time_point> seen_at_;
};

// Looks at positions for the first one of the victim's that another session moved.
class NextApplier {
  public:
    explicit NextApplier(pg::Session& session) : session_(session) {}

    void arm(const Holding& victim) {
        victim_ = victim;
        offset_at_change_.clear();
    }
    std::optional<Clock::time_point> seen_at() {
        const pg::Result rows = session_.execute_repeated(kOffsets);
        const Clock::time_point now = Clock::now();
        for (int i = 0; i < rows.row_count(); ++i) {
            const int partition = static_cast<int>(rows.integer(i, 0));
            const int64_t pid = rows.integer(i, 1);
            if (!victim_.shares.contains(partition)) continue;
            if (pid == 0 || victim_.holders.contains(pid)) continue;
            const auto [known, is_new] = offset_at_change_.emplace(partition, rows.integer(i, 2));
            if (!is_new && rows.integer(i, 2) > known->second) return now;
        }
        return std::nullopt;
    }

  private:
    pg::Session& session_;
    Holding victim_;
    std::map<int, int64_t> offset_at_change_;
};

BenchRow row_of_times(const std::string& name, const std::vector<double>& times) {
    return {.measure = name,
            .figures = {{"median ms", rounded(median(times), 0)},
                        {"worst ms", rounded(percentiles(times).max, 0)},
                        {"repeats", static_cast<int64_t>(times.size())}}};
}

// What is taken over, in how many shares, and how often.
struct Takeovers {
    std::string name;  // `relay`.
    size_t share_count = 0;
    int repeat_count = 0;
};

// Each blow in turn on one of the two, until `next` has seen that the other one went on.
template <typename Next>
void take_over(const BenchGround& ground, Pair& pair, Next& next, const Takeovers& what,
               const Emit& emit) {
    for (const Blow& blow : kBlows) {
        std::vector<double> times;
        for (int i = 0; i < what.repeat_count; ++i) {
            const size_t victim = static_cast<size_t>(i % 2);
            next.arm(pair.await_even(ground, what.share_count)[victim]);
            const Clock::time_point begin = Clock::now();
            pair.strike(victim, blow.signal);
            std::optional<Clock::time_point> end;
            while (!(end = next.seen_at())) {
                if (Clock::now() - begin > kTakeoverLimit) {
                    throw fatal("bench_unsound", std::string("after ") + blow.name +
                                                     " no other process went on within a minute");
                }
                ground.pause(milliseconds(1));
            }
            times.push_back(std::chrono::duration<double, std::milli>(*end - begin).count());
            say(what.name + ", " + blow.name + ": " + std::to_string(times.back()) + " ms");
            pair.mend(ground, victim, blow.signal);
        }
        emit(row_of_times("take-over of a " + what.name + ", " + blow.name, times));
    }
    pair.stop();
}

TaskWriters::Options long_writing(const Workspace& workspace) {
    return {.session = workspace.session_options(),
            .topic = workspace.topic(),
            .key_count = kKeyCount,
            .tasks_per_second = kTasksPerSecond,
            .writer_count = 2,
            .duration = kWriting};
}

}  // namespace

void run_relay_takeover(const BenchGround& ground, const CaseOptions& options, const Emit& emit) {
    Workspace workspace(ground.config, {.projections = {}, .program = ground.program});
    pg::Session session(workspace.session_options());
    NextPublisher next(session);
    Pair pair(session, kLanes, MeasuredWorker(workspace.start_worker("relay-1", {})),
              MeasuredWorker(workspace.start_worker("relay-2", {})));
    TopicReader reader(workspace.kafka_options(), workspace.topic(), workspace.partition_count(),
                       workspace.reaper(),
                       [&next](const rd_kafka_message_t& record, Clock::time_point at) {
                           next.see(record, at);
                       });
    TaskWriters writers(long_writing(workspace));
    const auto lane_count = static_cast<size_t>(
        session.execute("SELECT lane_count FROM millrace.installation").integer(0, 0));
    take_over(ground, pair, next,
              {.name = "relay", .share_count = lane_count, .repeat_count = options.repeat_count},
              emit);
}

void run_worker_takeover(const BenchGround& ground, const CaseOptions& options, const Emit& emit) {
    Workspace workspace(ground.config,
                        {.projections = {sample_text("orders.sql")}, .program = ground.program});
    pg::Session session(workspace.session_options());
    NextApplier next(session);
    MeasuredWorker relay(workspace.start_worker("relay", {{"projections.enabled", "false"}}));
    const Workspace::Values values{{"relay.enabled", "false"}};
    Pair pair(session, kPartitions, MeasuredWorker(workspace.start_worker("worker-1", values)),
              MeasuredWorker(workspace.start_worker("worker-2", values)));
    TaskWriters writers(long_writing(workspace));
    take_over(ground, pair, next,
              {.name = "worker",
               .share_count = static_cast<size_t>(workspace.partition_count()),
               .repeat_count = options.repeat_count},
              emit);
    relay.stop();
}

}  // namespace millrace::bench
