#include "projections/version_schema.h"

#include "projections/sql_handler.h"

namespace millrace {

namespace {

constexpr std::string_view kSchemaExists =
    "SELECT count(*) FROM pg_namespace WHERE nspname = $1";

constexpr std::string_view kRelationExists =
    "SELECT count(*)\n"
    "FROM pg_class AS c\n"
    "JOIN pg_namespace AS n ON n.oid = c.relnamespace\n"
    "WHERE n.nspname = $1\n"
    "  AND c.relname = $2";

// Tables, views and the like with rows of their own; indexes and sequences come with a table.
constexpr std::string_view kRelations =
    "SELECT coalesce(array_agg(oid::bigint), '{}')\n"
    "FROM pg_class\n"
    "WHERE relkind IN ('r','p','v','m','f')";

// Those made since, by this transaction alone, in the schema and elsewhere.
constexpr std::string_view kMadeSince =
    "SELECT count(*) FILTER (WHERE n.nspname = $2 AND c.relkind IN ('r','p')),\n"
    "       count(*) FILTER (WHERE n.nspname <> $2 OR c.relkind NOT IN ('r','p'))\n"
    "FROM pg_class AS c\n"
    "JOIN pg_namespace AS n ON n.oid = c.relnamespace\n"
    "WHERE c.relkind IN ('r','p','v','m','f')\n"
    "  AND n.nspname NOT LIKE 'pg\\_toast%'\n"
    "  AND c.xmin = pg_current_xact_id()::xid\n"
    "  AND c.oid::bigint <> ALL ($1::bigint[])";

// Sent back as it came: an array in binary format.
std::string relations_now(pg::Session& session) {
    return session.execute(kRelations).text(0, 0);
}

void make_table(pg::Session& session, const ProjectionFile& file, const Section& section,
                const std::string& schema) {
    const std::string before = relations_now(session);
    const StatementSql sql = plain_sql(section);
    const auto error = run_statement(session, sql);
    if (error) throw failure_of_statement(file, section, sql, *error);

    const pg::Result made = session.execute(
        kMadeSince, pg::Params()
                        .borrow(pg::array_oid(pg::Type::kInt8), before)
                        .text(std::string_view(schema)));
    if (made.integer(0, 0) == 1 && made.integer(0, 1) == 0) return;
    throw misconfigured("projection_file",
                        file.at(section.line) +
                            "the statement must make one table in the version's schema and "
                            "nothing else");
}

}  // namespace

void make_version_schema(pg::Session& session, const ProjectionFile& file,
                         const std::string& schema) {
    session.execute(create_schema_sql(schema));
    set_author_session(session, schema, /*is_local=*/true);
    for (const Section& section : file.sections) {
        if (section.kind == SectionKind::kTable) make_table(session, file, section, schema);
        if (section.kind != SectionKind::kIndex) continue;
        const StatementSql sql = plain_sql(section);
        const auto error = run_statement(session, sql);
        if (error) throw failure_of_statement(file, section, sql, *error);
    }
}

std::optional<pg::ServerError> run_statement(pg::Session& session, const StatementSql& sql,
                                             const pg::Params& params) {
    pg::Pipeline pipeline(session);
    pipeline.queue(sql.text, params);
    return pipeline.finish().error;
}

Failure failure_of_statement(const ProjectionFile& file, const Section& section,
                             const StatementSql& sql, const pg::ServerError& error) {
    Failure failure = pg::failure_of(error);
    if (failure.kind() != FailureKind::kHalt) return failure;
    return misconfigured("projection_file", file.at(line_of_error(section, sql, error)) +
                                                error.text() + " [" + error.sqlstate + "]")
        .with_sqlstate(error.sqlstate);
}

bool schema_exists(pg::Session& session, const std::string& schema) {
    const auto found = session.execute(kSchemaExists, pg::Params().text(std::string_view(schema)));
    return found.integer(0, 0) > 0;
}

bool relation_exists(pg::Session& session, const std::string& schema, const std::string& name) {
    const auto found = session.execute(
        kRelationExists, pg::Params().text(std::string_view(schema)).text(std::string_view(name)));
    return found.integer(0, 0) > 0;
}

}  // namespace millrace
