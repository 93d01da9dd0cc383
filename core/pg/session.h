#pragma once

#include <libpq-fe.h>

#include <chrono>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/pg/params.h"
#include "core/pg/result.h"

namespace millrace::pg {

struct SessionOptions {
    std::string url{};       // libpq's URI or keyword form; PG* variables fill what it leaves out.
    std::string password{};  // Empty: as the URL or libpq's own sources say.
    std::string application_name = "millrace";
    // Set for the session right after it is opened.
    std::vector<std::pair<std::string, std::string>> settings{};
    std::chrono::milliseconds connect_timeout{5000};
    // No call blocks longer; past it the session is broken and the failure is kUnknown.
    std::chrono::milliseconds call_timeout{30000};
    // Asked every 100 ms while a call waits for an answer; false ends the wait as its time would.
    std::function<bool()> may_wait{};
};

// The settings of every session of ours: synchronous commit (PROTOCOL 2.5), no JIT, and time-outs
// by which the server notices a client that is gone (PROTOCOL 2.4).
std::vector<std::pair<std::string, std::string>> common_settings();

// One connection to PostgreSQL. Not thread-safe: one per loop. Every call ends within
// `call_timeout` and throws Failure: kTransient if the connection broke, kUnknown
// (`pg_timeout`) if the server gave no answer in time, and what failure_of() says for an error of
// the server. After a broken connection or a time-out only destruction is allowed.
class Session {
  public:
    // Opens the connection; throws kTransient `pg_unreachable`, or kFatal `pg_refused` for a wrong
    // password, role or database.
    explicit Session(SessionOptions options);

    Result execute(std::string_view sql, const Params& params = {});
    void prepare(const std::string& name, std::string_view sql,
                 const std::vector<unsigned>& types = {});
    Result execute_prepared(const std::string& name, const Params& params = {});
    // For a statement that is run again and again: parsed and planned by its first call only.
    Result execute_repeated(std::string_view sql, const Params& params = {});
    // The name of such a statement for a pipeline; to be asked before the pipeline begins.
    const std::string& prepared(std::string_view sql, const Params& params);
    // Several statements in one string, in one implicit transaction unless they say otherwise.
    void run_script(const std::string& sql);
    // COMMIT whose answer must be the tag COMMIT (PROTOCOL 3.6). Any other outcome is kUnknown.
    void commit();
    // Ends a transaction if one is open; throws only when the connection is broken.
    void rollback();

    PGTransactionStatusType transaction_status() const;
    bool is_idle() const { return transaction_status() == PQTRANS_IDLE; }
    bool is_broken() const { return PQstatus(connection_.get()) != CONNECTION_OK; }
    int backend_pid() const { return PQbackendPID(connection_.get()); }
    // When the backend started, in microseconds since 2000-01-01: with the pid it names a session.
    int64_t backend_started() const { return backend_started_; }

  private:
    friend class Pipeline;
    friend class Transaction;

    void connect();
    // Waits for the socket; false when the deadline has passed, or `may_wait` says no.
    bool wait_socket(short events, std::chrono::steady_clock::time_point deadline) const;
    void flush_and_wait(std::chrono::steady_clock::time_point deadline);
    // The next PGresult or null, waiting for it; throws when the connection breaks.
    PGresult* next_result(std::chrono::steady_clock::time_point deadline);
    // The single answer to what was just sent.
    Result read_single();
    [[noreturn]] void throw_broken();
    [[noreturn]] void throw_timeout(const char* what);
    std::chrono::steady_clock::time_point deadline() const;

    SessionOptions options_;
    std::unique_ptr<PGconn, decltype(&PQfinish)> connection_;
    int64_t backend_started_ = 0;
    std::map<std::string, std::string, std::less<>> prepared_;  // Names by statement.
};

// The answers to a pipeline. `error` is the first one; later statements were not run because of it.
struct PipelineOutcome {
    std::vector<Result> results;  // Up to the failed one.
    std::optional<ServerError> error;
    size_t failed_index = 0;  // Which queued statement failed.

    // The results, or the error as its Failure.
    std::vector<Result>& value();
};

// When the server sends the answers to a pipeline: it keeps them until the end, unless told to send
// each. Each answer may take `call_timeout` then; otherwise that bounds all of them.
enum class Answers { kTogether, kEach };

// Statements sent together and answered together: one round trip. Not thread-safe; at most one per
// session at a time. Destroyed before `finish`, it leaves the session broken.
class Pipeline {
  public:
    explicit Pipeline(Session& session, Answers answers = Answers::kTogether);
    ~Pipeline();
    Pipeline(const Pipeline&) = delete;
    Pipeline& operator=(const Pipeline&) = delete;

    void queue(std::string_view sql, const Params& params = {});
    void queue_prepared(const std::string& name, const Params& params = {});
    size_t queued_count() const { return queued_count_; }
    // Sends what was queued and makes the server begin with it; reads no answer.
    void flush();
    // Makes the server run what was queued and reads its answers, without ending the pipeline. For
    // crash points between two statements (PROTOCOL 7.1).
    void flush_and_read();
    // Sends Sync, reads every answer up to it. The session is out of pipeline mode afterwards, and
    // perhaps still in the transaction that the statements opened.
    PipelineOutcome finish();

  private:
    void queued();
    void read_answers();
    void note(PGresult* result);

    Session& session_;
    const Answers answers_;
    PipelineOutcome outcome_;
    size_t queued_count_ = 0;
    size_t answered_count_ = 0;
    bool finished_ = false;
};

// Rolls back on destruction unless committed. For everything but the hot statements.
class Transaction {
  public:
    explicit Transaction(Session& session);
    ~Transaction();
    Transaction(const Transaction&) = delete;
    Transaction& operator=(const Transaction&) = delete;

    Result execute(std::string_view sql, const Params& params = {}) {
        return session_.execute(sql, params);
    }
    void commit();

  private:
    Session& session_;
    bool is_open_ = true;
};

}  // namespace millrace::pg
