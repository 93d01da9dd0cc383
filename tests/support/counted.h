#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "consumers/projection_runner.h"
#include "core/metrics.h"
#include "tests/support/database.h"
#include "tests/support/feed.h"

namespace millrace::test {

// A handler of the tests' own. It writes each event as a row of public.applied, which lets one in
// twice, and adds 1 to its key's row of public.totals, in key order: whatever is lost, doubled or
// reordered shows in SQL. A payload `"poison"` is refused by the handler.
class CountedHandler : public Handler {
  public:
    void open(pg::Session& session) override;
    bool wants(const Event& event) const override;
    bool collect(const Event& event) override;
    size_t event_count() const override { return rows_.size(); }
    size_t byte_count() const override { return byte_count_; }
    void queue(pg::Pipeline& pipeline) override;
    std::string describe_statement(size_t index, const pg::ServerError& error) const override;
    void analyze(pg::Session& session) override;
    void clear() override;

    // Called between the two statements that queue() sends.
    std::function<void()> between_statements;

  private:
    struct Row {
        std::string event_id;
        int32_t partition;
        int64_t offset;
        std::string key;
        std::string payload;
    };
    std::vector<Row> rows_;
    size_t byte_count_ = 0;
};

// A fresh database and topic, and a projection `counted` between them.
class Counted {
  public:
    explicit Counted(int partition_count = 4,
                     const std::map<std::string, std::string>& topic_config = {},
                     bool creates_topic = true);

    ProjectionOptions options() const;
    HaltSwitch halt_switch() const;
    // Lets each insert into public.applied run this body of PL/pgSQL, which sees the rows as
    // `new_rows`; `scope` is that of a trigger.
    void at_insert(const std::string& body, const std::string& scope = "FOR EACH STATEMENT") const;
    // Ends that.
    void let_inserts_pass() const;
    // As `millrace projection resume` does.
    void resume();
    std::optional<std::string> halted_reason() const;

    int64_t applied_count() const;
    int64_t number(const std::string& sql) const;
    // Empty if each event was applied exactly once and those of each key in their order; else what
    // is wrong.
    std::string fault(int64_t sent_count) const;

    Database database;
    std::string topic;
    int partition_count;

  private:
    std::string name_;
};

// Waits until so many events are applied.
bool applies(const Counted& counted, int64_t count,
             std::chrono::milliseconds limit = std::chrono::seconds(60));
// Waits until it is halted for a reason in which these words stand.
bool halts(const Counted& counted, const std::string& words = "");

// A projection's loops in this process, on threads; stops when destroyed.
class RunningProjection {
  public:
    RunningProjection(const Counted& counted, ProjectionOptions options,
                      const HandlerFactory& make_handler = [] {
                          return std::make_unique<CountedHandler>();
                      });
    explicit RunningProjection(const Counted& counted)
        : RunningProjection(counted, counted.options()) {}
    ~RunningProjection();

    void stop();
    double metric(const std::string& line_start) const;
    bool has_metric(const std::string& line_start) const;
    ProjectionStatus status() const { return runner_->status(); }

  private:
    Metrics metrics_;
    kafka::Reaper reaper_;
    std::unique_ptr<ProjectionRunner> runner_;
    std::jthread thread_;
};

}  // namespace millrace::test
