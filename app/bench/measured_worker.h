#pragma once

#include <string>

#include "app/scratch/child.h"

namespace millrace {

// A process under measurement. Its metrics are asked for at the address that `millrace run` logs; a
// textbook program logs none, and its metrics are 0.
class MeasuredWorker {
  public:
    explicit MeasuredWorker(Child child) : child_(std::move(child)) {}

    // Sum of the metric's lines that begin so; 0 while it does not answer.
    double metric(const std::string& line_start);
    double transaction_count() { return metric("millrace_relay_transactions_total{"); }
    double published_count() { return metric("millrace_relay_tasks_published_total{"); }
    double cpu() const;       // Seconds since its start.
    double resident() const;  // MiB.
    // Waits until it has logged its admin server's address; throws kFatal `scratch_child_ended`
    // when it ends instead, `bench_unsound` when neither comes within 30 s.
    void await_start();
    // Throws kFatal `scratch_child_ended` if it ended by itself.
    void check() { child_.check(); }
    // SIGTERM, then waits; killed after 20 s.
    void stop();

    Child& child() { return child_; }

  private:
    int port();

    Child child_;
    int port_ = 0;
};

}  // namespace millrace
