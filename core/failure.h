#pragma once

#include <exception>
#include <string>
#include <string_view>

namespace millrace {

// What a loop does next. One decision each, taken in one exhaustive switch per loop.
enum class FailureKind {
    kTransient,  // Nothing happened: roll back, back off, again.
    kUnknown,    // A commit whose end is not clean: drop the session or producers, settle.
    kLost,       // Fenced or moved away: drop this publisher or partition, the process goes on.
    kPoison,     // This input can never succeed: set it aside, go on.
    kHalt,       // Needs a human: stop this one alone, say why. Also everything unclassified.
    kFatal,      // Configuration, schema version, a failed check of ours: end the process.
};

std::string_view name_of(FailureKind kind);

// The one exception type. `reason` is a short constant that serves as log field, metric label and
// row of the runbook; `detail` is for people and never holds a payload or a secret.
class Failure : public std::exception {
  public:
    Failure(FailureKind kind, std::string reason, std::string detail);

    FailureKind kind() const { return kind_; }
    const std::string& reason() const { return reason_; }
    const std::string& detail() const { return detail_; }
    const char* what() const noexcept override { return what_.c_str(); }

    // The five characters PostgreSQL gave, empty when the failure did not come from a statement.
    const std::string& sqlstate() const { return sqlstate_; }
    Failure&& with_sqlstate(std::string_view sqlstate) &&;

    // The exit code a command ends with: 69 (server down), 78 (configuration) or 1.
    int exit_code() const { return exit_code_; }
    Failure&& with_exit_code(int exit_code) &&;

  private:
    FailureKind kind_;
    std::string reason_;
    std::string detail_;
    std::string sqlstate_;
    std::string what_;
    int exit_code_ = 1;
};

constexpr int kExitFailed = 1;
constexpr int kExitUsage = 2;
constexpr int kExitFoundWrong = 3;
constexpr int kExitServerDown = 69;
constexpr int kExitConfiguration = 78;

Failure transient(std::string reason, std::string detail);
Failure unknown(std::string reason, std::string detail);
Failure lost(std::string reason, std::string detail);
Failure poison(std::string reason, std::string detail);
Failure halt(std::string reason, std::string detail);
Failure fatal(std::string reason, std::string detail);
// A fatal failure that ends the process with 78: the configuration, or what it points to, is wrong.
Failure misconfigured(std::string reason, std::string detail);

// Whether a loop that has run before ends the program by it. A role that is locked out now was let
// in at the start, and will be again: `pg_refused` is waited out like an outage.
bool ends_program(const Failure& failure);

}  // namespace millrace
