#include "projections/probe.h"

#include <optional>

#include "projections/probe_events.h"
#include "projections/sql_handler.h"
#include "projections/sql_text.h"
#include "projections/version_schema.h"

namespace millrace {

namespace {

// Above this many types only the first one gives the state before each pair: the time grows with
// the cube else.
constexpr size_t kFirstEventsMax = 8;

constexpr std::string_view kCardinalityViolation = "21000";

constexpr std::string_view kLockTimeout = "SET LOCAL lock_timeout = '2s'";
constexpr std::string_view kSavepoint = "SAVEPOINT millrace_probe";
constexpr std::string_view kRollback = "ROLLBACK TO SAVEPOINT millrace_probe";
constexpr std::string_view kCheckConstraints = "SET CONSTRAINTS ALL IMMEDIATE";

// Columns by table that the same events fill alike: without those whose value is drawn, by an
// identity or a default that calls a volatile function.
constexpr std::string_view kComparable =
    "SELECT a.attname\n"
    "FROM pg_attribute AS a\n"
    "JOIN pg_class AS c ON c.oid = a.attrelid\n"
    "JOIN pg_namespace AS n ON n.oid = c.relnamespace\n"
    "LEFT JOIN pg_attrdef AS d ON d.adrelid = a.attrelid AND d.adnum = a.attnum\n"
    "WHERE n.nspname = $1\n"
    "  AND c.relname = $2\n"
    "  AND a.attnum > 0\n"
    "  AND NOT a.attisdropped\n"
    "  AND a.attidentity = ''\n"
    "  AND NOT EXISTS (\n"
    "      SELECT FROM regexp_matches(d.adbin::text, ':(?:op)?funcid (\\d+)', 'g') AS m(ids)\n"
    "      JOIN pg_proc AS p ON p.oid = m.ids[1]::oid\n"
    "      WHERE p.provolatile = 'v')\n"
    "ORDER BY a.attnum";

// What applying some batches came to: the tables' rows, or the error that ended it.
struct ProbeResult {
    std::optional<pg::ServerError> error;
    const ApplyPlan::Statement* failed = nullptr;  // Null: a deferred constraint.
    std::vector<std::string> rows;

    std::string text() const {
        if (error) return error->text() + " [" + error->sqlstate + "]";
        std::string all;
        for (const std::string& row : rows) all += (all.empty() ? "" : ", ") + row;
        return all.empty() ? "no rows" : all;
    }
};

using Batch = std::vector<ProbeEvent>;

ProbeEvent numbered(ProbeEvent event, int number) {
    event.number = number;
    return event;
}

// Errors that come of the values, which are the probe's own, and say nothing of the statement.
bool is_by_value(const pg::ServerError& error) {
    const std::string klass = error.sqlstate.substr(0, 2);
    return (klass == "22" || klass == "23" || klass == "P0");
}

class Probe {
  public:
    Probe(pg::Session& session, const ProjectionFile& file)
        : session_(session),
          file_(file),
          schema_(file.schema() + "_probe_" + std::to_string(session.backend_pid())),
          plan_(file),
          events_(probe_events(file)) {}

    std::vector<std::string> run() {
        pg::Transaction transaction(session_);  // Never committed.
        transaction.execute(kLockTimeout);
        make_version_schema(session_, file_, schema_);
        find_snapshots();
        const size_t first_count = events_.size() <= kFirstEventsMax ? events_.size() : 1;
        for (size_t i = 0; i < first_count; ++i) probe_after(events_[i]);
        probe_pairs({}, nullptr);
        return std::move(not_probed_);
    }

  private:
    void find_snapshots() {
        for (const Section* section : file_.sections_of(SectionKind::kTable)) {
            const pg::Result found =
                session_.execute(kComparable, pg::Params()
                                                  .text(std::string_view(schema_))
                                                  .text(std::string_view(section->table)));
            std::vector<std::string> columns;
            for (int row = 0; row < found.row_count(); ++row) columns.push_back(found.text(row, 0));
            snapshots_.push_back({section->table, snapshot_sql(section->table, columns)});
        }
    }

    void probe_after(const ProbeEvent& first_event) {
        const Batch first{numbered(first_event, 0)};
        const ProbeResult alone = try_batches({first});
        if (alone.error) {
            refuse_mistake(alone);
            note_not_probed(alone, first_event.name());
        }
        // Without a first event the tables are empty, and that is tried for itself.
        if (!alone.error) probe_pairs({first}, &first_event);
    }

    void probe_pairs(const std::vector<Batch>& before, const ProbeEvent* first) {
        for (const ProbeEvent& a : events_) {
            // What follows a tombstone of its key starts a new batch by rule, never in one with it.
            if (a.is_tombstone) continue;
            for (const ProbeEvent& b : events_) {
                compare(before, first, numbered(a, 1), numbered(b, 2));
            }
        }
    }

    void compare(const std::vector<Batch>& before, const ProbeEvent* first, const ProbeEvent& a,
                 const ProbeEvent& b) {
        std::vector<Batch> one = before;
        one.push_back({a, b});
        std::vector<Batch> two = before;
        two.push_back({a});
        two.push_back({b});
        const ProbeResult as_one = try_batches(one);
        const ProbeResult as_two = try_batches(two);
        const std::string pair =
            a.name() + " then " + b.name() + (first == nullptr ? "" : ", after " + first->name());

        if (is_cardinality_error(as_one) || is_cardinality_error(as_two)) {
            refuse_difference(as_one, as_two, pair);
        }
        if (!as_one.error && !as_two.error) {
            if (as_one.rows != as_two.rows) refuse_difference(as_one, as_two, pair);
            return;
        }
        const bool same_error = as_one.error && as_two.error &&
                                as_one.error->sqlstate == as_two.error->sqlstate &&
                                as_one.failed == as_two.failed;
        if (!same_error) refuse_difference(as_one, as_two, pair);
        refuse_mistake(as_one);
        note_not_probed(as_one, pair);
    }

    ProbeResult try_batches(const std::vector<Batch>& batches) {
        ProbeResult result;
        session_.execute(kSavepoint);
        for (const Batch& batch : batches) {
            if (!result.error) apply(batch, result);
        }
        if (!result.error) take_snapshot(result);
        session_.execute(kRollback);
        return result;
    }

    void apply(const Batch& batch, ProbeResult& result) {
        BatchRows rows(plan_.layout);
        for (const ProbeEvent& event : batch) add_probe_row(event, file_, plan_.layout, rows);
        const BatchArrays arrays(plan_, rows);
        for (const ApplyPlan::Statement& statement : plan_.statements) {
            result.error = run_statement(session_, statement.sql, arrays.params_of(statement.sql));
            result.failed = &statement;
            if (result.error) return throw_if_outage(*result.error);
        }
        check_deferred(result);
    }

    // What COMMIT would check, and then back to where constraints were deferred.
    void check_deferred(ProbeResult& result) {
        session_.execute("SAVEPOINT millrace_deferred");
        StatementSql check;
        check.text = kCheckConstraints;
        result.error = run_statement(session_, check);
        result.failed = nullptr;
        session_.execute("ROLLBACK TO SAVEPOINT millrace_deferred");
        session_.execute("RELEASE SAVEPOINT millrace_deferred");
        if (result.error) throw_if_outage(*result.error);
    }

    void take_snapshot(ProbeResult& result) {
        for (const auto& [table, sql] : snapshots_) {
            const pg::Result rows = session_.execute(sql);
            for (int row = 0; row < rows.row_count(); ++row) {
                result.rows.push_back(table + rows.text(row, 0));
            }
        }
    }

    // A lock that was not free or a lost connection says nothing of the file.
    static void throw_if_outage(const pg::ServerError& error) {
        const Failure failure = pg::failure_of(error);
        if (failure.kind() != FailureKind::kHalt) throw failure;
    }

    static bool is_cardinality_error(const ProbeResult& result) {
        return result.error && result.error->sqlstate == kCardinalityViolation;
    }

    int line_of(const ProbeResult& result) const {
        if (!result.error || result.failed == nullptr) return plan_.statements[0].section->line;
        return line_of_error(*result.failed->section, result.failed->sql, *result.error);
    }

    // Wrong whatever the values: an unknown column, a type that does not match.
    void refuse_mistake(const ProbeResult& result) const {
        if (is_by_value(*result.error)) return;
        throw misconfigured("projection_file", file_.at(line_of(result)) + result.text())
            .with_sqlstate(result.error->sqlstate);
    }

    [[noreturn]] void refuse_difference(const ProbeResult& as_one, const ProbeResult& as_two,
                                        const std::string& pair) const {
        const int line = line_of(as_one.error ? as_one : as_two);
        throw misconfigured("projection_file",
                            file_.at(line) + "the result depends on how events are cut into "
                                             "batches: " + pair + " gives as one batch: " +
                                as_one.text() + "; as two: " + as_two.text());
    }

    // One line for one cause, however many pairs meet it.
    void note_not_probed(const ProbeResult& result, const std::string& events) {
        const std::string where = file_.at(line_of(result)) + "not probed: ";
        const std::string cause = result.text();
        for (const std::string& note : not_probed_) {
            if (note.starts_with(where) && note.ends_with(cause)) return;
        }
        not_probed_.push_back(where + events + ": " + cause);
    }

    struct Snapshot {
        std::string table;
        std::string sql;
    };

    pg::Session& session_;
    const ProjectionFile& file_;
    const std::string schema_;
    const ApplyPlan plan_;
    const std::vector<ProbeEvent> events_;
    std::vector<Snapshot> snapshots_;
    std::vector<std::string> not_probed_;
};

}  // namespace

std::vector<std::string> probe_projection(pg::Session& session, const ProjectionFile& file) {
    return Probe(session, file).run();
}

}  // namespace millrace
