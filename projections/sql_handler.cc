#include "projections/sql_handler.h"

#include <algorithm>

#include "core/check.h"

namespace millrace {

namespace {

constexpr std::string_view kSetAuthorSession =
    "SELECT set_config('search_path', $1, $2),\n"
    "       set_config('jit', 'off', $2),\n"
    "       set_config('plan_cache_mode', 'force_generic_plan', $2)";

std::string statement_name(size_t index) { return "apply_" + std::to_string(index); }

}  // namespace

void set_author_session(pg::Session& session, const std::string& schema, bool is_local) {
    const std::string quoted = quote_identifier(schema);
    const std::string_view search_path = quoted;
    session.execute(kSetAuthorSession, pg::Params().text(search_path).boolean(is_local));
}

ApplyPlan::ApplyPlan(const ProjectionFile& file) : layout(file) {
    for (const Section* section : file.sections_of(SectionKind::kApply)) {
        statements.push_back({section, apply_sql(*section, layout)});
    }
}

BatchArrays::BatchArrays(const ApplyPlan& plan, const BatchRows& rows) : layout_(plan.layout) {
    for (const Relation relation : {Relation::kBatch, Relation::kLast, Relation::kMerged}) {
        const bool is_read =
            std::any_of(plan.statements.begin(), plan.statements.end(),
                        [&](const auto& s) { return s.section->mentions(name_of(relation)); });
        arrays_.push_back(is_read ? rows.arrays(relation) : std::vector<std::string>());
    }
}

pg::Params BatchArrays::params_of(const StatementSql& sql) const {
    pg::Params params;
    size_t index = 0;
    for (const Relation relation : sql.relations) {
        for (const std::string& array : arrays_[static_cast<size_t>(relation)]) {
            params.borrow(sql.types[index++], array);
        }
    }
    MILLRACE_CHECK(index == sql.types.size(), "each parameter has its array");
    return params;
}

SqlHandler::SqlHandler(ProjectionFile file)
    : file_(std::move(file)),
      plan_(file_),
      types_(file_.types.begin(), file_.types.end()),
      sees_tombstones_(file_.mentions("_deleted")),
      reader_(file_, plan_.layout),
      rows_(plan_.layout) {}

void SqlHandler::open(pg::Session& session) {
    set_author_session(session, file_.schema());
    for (size_t i = 0; i < plan_.statements.size(); ++i) {
        const StatementSql& sql = plan_.statements[i].sql;
        session.prepare(statement_name(i), sql.text, sql.types);
    }
}

bool SqlHandler::wants(const Event& event) const {
    if (!event.payload) return sees_tombstones_;
    return types_.empty() || types_.contains(event.type);
}

bool SqlHandler::collect(const Event& event) {
    if (event.key && !tombstone_keys_.empty() && tombstone_keys_.contains(*event.key)) return false;
    reader_.read(event, rows_);
    arrays_.reset();
    if (event.key && !event.payload) tombstone_keys_.emplace(*event.key);
    return true;
}

void SqlHandler::queue(pg::Pipeline& pipeline) {
    if (!arrays_) arrays_.emplace(plan_, rows_);
    for (size_t i = 0; i < plan_.statements.size(); ++i) {
        pipeline.queue_prepared(statement_name(i), arrays_->params_of(plan_.statements[i].sql));
    }
}

std::string SqlHandler::describe_statement(size_t index, const pg::ServerError& error) const {
    MILLRACE_CHECK(index < plan_.statements.size(), "the statement was queued by this handler");
    const ApplyPlan::Statement& statement = plan_.statements[index];
    return file_.path + ":" +
           std::to_string(line_of_error(*statement.section, statement.sql, error));
}

void SqlHandler::analyze(pg::Session& session) {
    for (const Section* section : file_.sections_of(SectionKind::kTable)) {
        session.execute(analyze_sql(file_.schema(), section->table));
    }
}

void SqlHandler::clear() {
    rows_.clear();
    arrays_.reset();
    tombstone_keys_.clear();
}

}  // namespace millrace
