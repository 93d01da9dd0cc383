#include "relay/start_checks.h"

#include <numeric>
#include <vector>

#include "relay/outbox.h"

namespace millrace {

namespace {

// Why the invariant of PROTOCOL 6 would not hold; null if it does.
constexpr std::string_view kInvariant = R"(
    SELECT CASE
        WHEN x.attnum > i.attnum THEN 'column id stands before xid'
        WHEN i.attidentity <> 'a' THEN 'column id is not GENERATED ALWAYS AS IDENTITY'
        WHEN x.default_sql IS DISTINCT FROM 'pg_current_xact_id()'
            THEN 'the default of column xid is not pg_current_xact_id()'
        WHEN s.seqcache <> 1 THEN 'the sequence of id has CACHE ' || s.seqcache
        WHEN s.seqincrement <> 1 OR s.seqcycle THEN 'the sequence of id does not count up by 1'
    END
    FROM (SELECT a.attnum, pg_get_expr(d.adbin, d.adrelid) AS default_sql
          FROM pg_attribute a
          LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
          WHERE a.attrelid = 'millrace.pending_tasks'::regclass AND a.attname = 'xid') x,
         (SELECT attnum, attidentity FROM pg_attribute
          WHERE attrelid = 'millrace.pending_tasks'::regclass AND attname = 'id') i,
         (SELECT seqcache, seqincrement, seqcycle FROM pg_sequence
          WHERE seqrelid = 'millrace.pending_tasks_id_seq'::regclass) s)";

// Roles that are neither the owner, nor act as the owner, nor superusers, and hold more than the
// column-level INSERT: with an UPDATE they could make a claim skip a row, with an id put one below
// the floor. pg_write_all_data itself can't log in; its members are looked at.
constexpr std::string_view kRights = R"(
    SELECT string_agg(r.rolname, ', ' ORDER BY r.rolname)
    FROM pg_roles r, pg_class c
    WHERE c.oid = 'millrace.pending_tasks'::regclass
      AND NOT r.rolsuper
      AND r.rolname <> 'pg_write_all_data'
      AND NOT pg_has_role(r.oid, c.relowner, 'USAGE')
      AND (has_table_privilege(r.oid, c.oid, 'INSERT, UPDATE, DELETE, TRUNCATE')
           OR has_any_column_privilege(r.oid, c.oid, 'UPDATE')
           OR has_column_privilege(r.oid, c.oid, 'xid', 'INSERT')
           OR has_column_privilege(r.oid, c.oid, 'id', 'INSERT')))";

// Roles of live relays whose sessions this one may not end; null if there is none.
constexpr std::string_view kSignals = R"(
    SELECT string_agg(DISTINCT r.rolname, ', ')
    FROM millrace.relay_members m
    JOIN millrace.live_members alive ON alive.instance = m.instance
    JOIN pg_stat_activity a ON a.pid = m.pid
    JOIN pg_roles r ON r.oid = a.usesysid
    WHERE NOT pg_has_role(current_user, r.oid, 'USAGE')
      AND (r.rolsuper OR NOT pg_has_role(current_user, 'pg_signal_backend', 'USAGE')))";

constexpr std::string_view kSameSession = R"(
    SELECT pg_backend_pid(),
           (SELECT count(*) FROM pg_prepared_statements WHERE name = 'pooler_check'))";

// Behind a transaction pooler pid and prepared statements would differ from one transaction to the
// next.
void check_no_pooler(pg::Session& session) {
    session.prepare("pooler_check", "SELECT 1");
    for (int i = 0; i < 3; ++i) {
        const pg::Result row = session.execute(kSameSession);
        if (row.integer(0, 0) == session.backend_pid() && row.integer(0, 1) == 1) continue;
        throw misconfigured("pooler",
                            "the connection goes through a transaction pooler: sessions do not "
                            "keep their backend; connect to PostgreSQL directly");
    }
}

}  // namespace

void check_relay_start(pg::Session& session, const Installation& installation) {
    check_no_pooler(session);
    const pg::Result invariant = session.execute(kInvariant);
    if (invariant.row_count() == 0 || !invariant.is_null(0, 0)) {
        throw misconfigured("floor_invariant",
                            "pending_tasks: " +
                                (invariant.row_count() == 0 ? "its columns or sequence are missing"
                                                            : invariant.text(0, 0)) +
                                "; tasks could be lost, so restore the table as 'migrate up' made "
                                "it");
    }
    const pg::Result rights = session.execute(kRights);
    if (!rights.is_null(0, 0)) {
        throw misconfigured(
            "writer_rights",
            "these roles could change pending tasks or set their ids: " + rights.text(0, 0) +
                "; REVOKE ALL ON millrace.pending_tasks FROM them, then GRANT "
                "millrace_app TO them");
    }
    const pg::Result signals = session.execute(kSignals);
    if (!signals.is_null(0, 0)) {
        throw misconfigured("signal_rights",
                            "other relays of this installation run as " + signals.text(0, 0) +
                                ": a session of theirs that hangs could not be ended; run all as "
                                "one role, or GRANT pg_signal_backend TO this one");
    }
    std::vector<int16_t> lanes(static_cast<size_t>(installation.lane_count));
    std::iota(lanes.begin(), lanes.end(), static_cast<int16_t>(0));
    Outbox(session).check_plan(lanes);
}

}  // namespace millrace
