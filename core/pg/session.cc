#include "core/pg/session.h"

#include <poll.h>

#include <algorithm>

#include "core/check.h"

namespace millrace::pg {

namespace {

using Clock = std::chrono::steady_clock;

// So often does a call that waits ask whether it may go on.
constexpr std::chrono::milliseconds kAskEvery{100};

// Waits for the socket; false when the deadline has passed.
bool wait_until(int socket, short events, Clock::time_point deadline) {
    for (;;) {
        const auto left =
            std::chrono::ceil<std::chrono::milliseconds>(deadline - Clock::now()).count();
        if (left <= 0) return false;
        pollfd entry{.fd = socket, .events = events, .revents = 0};
        const int ready = poll(&entry, 1, static_cast<int>(left));
        if (ready > 0) return true;
        if (ready == 0) return false;
        if (errno != EINTR) return false;
    }
}

std::string one_line(std::string text) {
    while (!text.empty() && (text.back() == '\n' || text.back() == ' ')) text.pop_back();
    for (char& c : text) {
        if (c == '\n' || c == '\t') c = ' ';
    }
    return text;
}

// libpq gives no SQLSTATE for a failed connection attempt; the server's words for the failures that
// waiting does not mend are stable enough to tell them from an outage.
bool is_refusal(const std::string& message) {
    for (const char* words :
         {"password authentication failed", "no password supplied", "does not exist",
          "no pg_hba.conf entry", "is not permitted to log in", "authentication failed",
          "invalid connection option", "invalid URI", "permission denied for database"}) {
        if (message.find(words) != std::string::npos) return true;
    }
    return false;
}

}  // namespace

std::vector<std::pair<std::string, std::string>> common_settings() {
    return {
        {"synchronous_commit", "on"},
        {"jit", "off"},
        {"plan_cache_mode", "force_generic_plan"},
        {"client_min_messages", "warning"},
        {"client_connection_check_interval", "2s"},
        {"tcp_keepalives_idle", "3"},
        {"tcp_keepalives_interval", "1"},
        {"tcp_keepalives_count", "3"},
        {"tcp_user_timeout", "6s"},
        {"idle_in_transaction_session_timeout", "20s"},
    };
}

Session::Session(SessionOptions options)
    : options_(std::move(options)), connection_(nullptr, &PQfinish) {
    connect();
    PQsetnonblocking(connection_.get(), 1);

    ArrayBuilder names(Type::kText);
    ArrayBuilder values(Type::kText);
    for (const auto& [name, value] : options_.settings) {
        names.add_bytes(name);
        values.add_bytes(value);
    }
    if (names.size() > 0) {
        execute("SELECT set_config(n, v, false) FROM unnest($1::text[], $2::text[]) AS s(n, v)",
                Params().array(names).array(values));
    }
    const Result started =
        execute("SELECT backend_start FROM pg_stat_activity WHERE pid = pg_backend_pid()");
    if (started.row_count() == 1 && !started.is_null(0, 0)) {
        backend_started_ = started.integer(0, 0);
    }
}

void Session::connect() {
    std::vector<const char*> names{"dbname", "application_name", "client_encoding",
                                   "keepalives_idle", "keepalives_interval", "keepalives_count",
                                   "tcp_user_timeout"};
    std::vector<const char*> values{options_.url.c_str(), options_.application_name.c_str(), "UTF8",
                                    "3", "1", "3", "6000"};
    if (!options_.password.empty()) {
        names.push_back("password");
        values.push_back(options_.password.c_str());
    }
    names.push_back(nullptr);
    values.push_back(nullptr);

    const auto limit = Clock::now() + options_.connect_timeout;
    connection_.reset(PQconnectStartParams(names.data(), values.data(), /*expand_dbname=*/1));
    MILLRACE_CHECK(connection_ != nullptr, "libpq has memory for a connection");
    PostgresPollingStatusType state = PGRES_POLLING_WRITING;
    while (PQstatus(connection_.get()) != CONNECTION_BAD && state != PGRES_POLLING_OK &&
           state != PGRES_POLLING_FAILED) {
        const short events = state == PGRES_POLLING_READING ? POLLIN : POLLOUT;
        if (!wait_socket(events, limit)) {
            throw transient("pg_unreachable", "PostgreSQL did not answer in time");
        }
        state = PQconnectPoll(connection_.get());
    }
    if (PQstatus(connection_.get()) == CONNECTION_OK) return;

    const std::string message = one_line(PQerrorMessage(connection_.get()));
    if (is_refusal(message)) throw misconfigured("pg_refused", message);
    throw transient("pg_unreachable", message);
}

Result Session::execute(std::string_view sql, const Params& params) {
    const Params::Wire wire = params.wire();
    const std::string text(sql);
    if (PQsendQueryParams(connection_.get(), text.c_str(), params.count(), wire.types.data(),
                          wire.values.data(), wire.lengths.data(), wire.formats.data(),
                          /*resultFormat=*/1) == 0) {
        throw_broken();
    }
    return read_single();
}

void Session::prepare(const std::string& name, std::string_view sql,
                      const std::vector<unsigned>& types) {
    const std::string text(sql);
    if (PQsendPrepare(connection_.get(), name.c_str(), text.c_str(),
                      static_cast<int>(types.size()), types.data()) == 0) {
        throw_broken();
    }
    read_single();
}

Result Session::execute_prepared(const std::string& name, const Params& params) {
    const Params::Wire wire = params.wire();
    if (PQsendQueryPrepared(connection_.get(), name.c_str(), params.count(), wire.values.data(),
                            wire.lengths.data(), wire.formats.data(), /*resultFormat=*/1) == 0) {
        throw_broken();
    }
    return read_single();
}

Result Session::execute_repeated(std::string_view sql, const Params& params) {
    return execute_prepared(prepared(sql, params), params);
}

const std::string& Session::prepared(std::string_view sql, const Params& params) {
    const auto known = prepared_.find(sql);
    if (known != prepared_.end()) return known->second;
    const std::string name = "repeated_" + std::to_string(prepared_.size() + 1);
    prepare(name, sql, params.wire().types);
    return prepared_.emplace(sql, name).first->second;
}

void Session::run_script(const std::string& sql) {
    if (PQsendQuery(connection_.get(), sql.c_str()) == 0) throw_broken();
    const auto limit = deadline();
    std::optional<ServerError> error;
    while (PGresult* raw = next_result(limit)) {
        const Result result(raw);
        if (PQresultStatus(raw) == PGRES_FATAL_ERROR && !error) error = error_of(raw);
    }
    if (is_broken()) throw_broken();
    if (error) throw failure_of(*error);
}

void Session::commit() {
    try {
        const Result answer = execute("COMMIT");
        if (answer.command_tag() == "COMMIT") return;
        throw unknown("pg_commit_in_doubt",
                      "COMMIT was answered with " + std::string(answer.command_tag()));
    } catch (const Failure& failure) {
        if (failure.kind() == FailureKind::kUnknown) throw;
        // A connection that broke here may have broken before or after the server committed.
        throw unknown("pg_commit_in_doubt", failure.detail()).with_sqlstate(failure.sqlstate());
    }
}

void Session::rollback() {
    if (is_broken()) throw_broken();
    if (!is_idle()) execute("ROLLBACK");
}

PGTransactionStatusType Session::transaction_status() const {
    return PQtransactionStatus(connection_.get());
}

bool Session::wait_socket(short events, Clock::time_point deadline) const {
    const int socket = PQsocket(connection_.get());
    if (!options_.may_wait) return wait_until(socket, events, deadline);
    while (options_.may_wait()) {
        const Clock::time_point next = Clock::now() + kAskEvery;
        if (wait_until(socket, events, std::min(next, deadline))) return true;
        if (next >= deadline) return false;
    }
    return false;
}

void Session::flush_and_wait(Clock::time_point deadline) {
    // Reading while writing keeps both sides from waiting for each other with full buffers.
    for (;;) {
        const int unsent = PQflush(connection_.get());
        if (unsent < 0) throw_broken();
        if (unsent == 0 && PQisBusy(connection_.get()) == 0) return;
        const short events = static_cast<short>(unsent == 1 ? POLLIN | POLLOUT : POLLIN);
        if (!wait_socket(events, deadline)) {
            throw_timeout("PostgreSQL gave no answer within the call's time");
        }
        if (PQconsumeInput(connection_.get()) == 0) throw_broken();
    }
}

PGresult* Session::next_result(Clock::time_point deadline) {
    flush_and_wait(deadline);
    return PQgetResult(connection_.get());
}

Result Session::read_single() {
    const auto limit = deadline();
    PGresult* first = next_result(limit);
    if (first == nullptr) throw_broken();
    Result result(first);
    while (PGresult* rest = next_result(limit)) PQclear(rest);
    const ExecStatusType status = PQresultStatus(first);
    if (status == PGRES_FATAL_ERROR || status == PGRES_BAD_RESPONSE) {
        throw failure_of(error_of(first));
    }
    return result;
}

void Session::throw_broken() {
    throw transient("pg_connection_lost", one_line(PQerrorMessage(connection_.get())));
}

// The answer may still come, and would be taken for that of the next statement.
void Session::throw_timeout(const char* what) {
    connection_.reset();
    throw unknown("pg_timeout", what);
}

Clock::time_point Session::deadline() const { return Clock::now() + options_.call_timeout; }

std::vector<Result>& PipelineOutcome::value() {
    if (error) throw failure_of(*error);
    return results;
}

Pipeline::Pipeline(Session& session, Answers answers) : session_(session), answers_(answers) {
    if (PQenterPipelineMode(session_.connection_.get()) == 0) session_.throw_broken();
}

Pipeline::~Pipeline() {
    // Answers that nobody read would be taken for those of the next statement.
    if (!finished_) session_.connection_.reset(nullptr);
}

void Pipeline::queue(std::string_view sql, const Params& params) {
    const Params::Wire wire = params.wire();
    const std::string text(sql);
    if (PQsendQueryParams(session_.connection_.get(), text.c_str(), params.count(),
                          wire.types.data(), wire.values.data(), wire.lengths.data(),
                          wire.formats.data(), /*resultFormat=*/1) == 0) {
        session_.throw_broken();
    }
    queued();
}

void Pipeline::queue_prepared(const std::string& name, const Params& params) {
    const Params::Wire wire = params.wire();
    if (PQsendQueryPrepared(session_.connection_.get(), name.c_str(), params.count(),
                            wire.values.data(), wire.lengths.data(), wire.formats.data(),
                            /*resultFormat=*/1) == 0) {
        session_.throw_broken();
    }
    queued();
}

void Pipeline::queued() {
    ++queued_count_;
    if (answers_ == Answers::kTogether) return;
    if (PQsendFlushRequest(session_.connection_.get()) == 0) session_.throw_broken();
}

void Pipeline::flush() {
    if (PQsendFlushRequest(session_.connection_.get()) == 0) session_.throw_broken();
    const auto limit = session_.deadline();
    for (;;) {
        const int unsent = PQflush(session_.connection_.get());
        if (unsent < 0) session_.throw_broken();
        if (unsent == 0) return;
        if (!session_.wait_socket(POLLIN | POLLOUT, limit)) {
            session_.throw_timeout("PostgreSQL took no statement within the call's time");
        }
        if (PQconsumeInput(session_.connection_.get()) == 0) session_.throw_broken();
    }
}

void Pipeline::flush_and_read() {
    flush();
    read_answers();
}

PipelineOutcome Pipeline::finish() {
    if (PQpipelineSync(session_.connection_.get()) == 0) session_.throw_broken();
    read_answers();
    PGresult* sync = session_.next_result(session_.deadline());
    if (sync == nullptr) session_.throw_broken();
    const ExecStatusType status = PQresultStatus(sync);
    PQclear(sync);
    if (status != PGRES_PIPELINE_SYNC) session_.throw_broken();
    if (PQexitPipelineMode(session_.connection_.get()) == 0) session_.throw_broken();
    finished_ = true;
    return std::move(outcome_);
}

void Pipeline::read_answers() {
    auto limit = session_.deadline();
    while (answered_count_ < queued_count_) {
        if (answers_ == Answers::kEach) limit = session_.deadline();
        PGresult* answer = session_.next_result(limit);
        if (answer == nullptr) session_.throw_broken();
        note(answer);
        while (PGresult* rest = session_.next_result(limit)) PQclear(rest);
        ++answered_count_;
    }
}

void Pipeline::note(PGresult* raw) {
    Result result(raw);
    const ExecStatusType status = PQresultStatus(raw);
    if (status == PGRES_TUPLES_OK || status == PGRES_COMMAND_OK || status == PGRES_EMPTY_QUERY) {
        outcome_.results.push_back(std::move(result));
        return;
    }
    // What follows the first error answers PIPELINE_ABORTED and says nothing more.
    if (outcome_.error) return;
    if (PQstatus(session_.connection_.get()) != CONNECTION_OK) session_.throw_broken();
    outcome_.error = error_of(raw);
    outcome_.failed_index = answered_count_;
}

Transaction::Transaction(Session& session) : session_(session) {
    // The rollback of the one before may have ended the connection.
    if (session.is_broken()) session.throw_broken();
    MILLRACE_CHECK(session.is_idle(), "a transaction begins on an idle session");
    session_.execute("BEGIN ISOLATION LEVEL READ COMMITTED");
}

Transaction::~Transaction() {
    if (!is_open_) return;
    try {
        session_.rollback();
    } catch (const Failure&) {
        // Broken, or left in the transaction by a server that refused the ROLLBACK (its time was
        // up): without a connection the server rolls back by itself, and nobody goes on in it.
        session_.connection_.reset();
    }
}

void Transaction::commit() {
    is_open_ = false;
    session_.commit();
}

}  // namespace millrace::pg
