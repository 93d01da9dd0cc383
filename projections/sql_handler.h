#pragma once

#include <set>
#include <string>
#include <vector>

#include "consumers/handler.h"
#include "projections/batch_rows.h"
#include "projections/column_reader.h"
#include "projections/projection_file.h"
#include "projections/sql_text.h"

namespace millrace {

// The settings under which an author's SQL runs: the version's schema as the whole search path, no
// JIT, generic plans, and no planner switch.
void set_author_session(pg::Session& session, const std::string& schema, bool is_local = false);

// The statements of a projection, as the handler and the probe send them.
struct ApplyPlan {
    explicit ApplyPlan(const ProjectionFile& file);

    struct Statement {
        const Section* section;  // Of the file, which outlives the plan.
        StatementSql sql;
    };
    BatchLayout layout;
    std::vector<Statement> statements;
};

// The arrays of a batch, made once and sent by each statement that reads their relation.
class BatchArrays {
  public:
    BatchArrays(const ApplyPlan& plan, const BatchRows& rows);
    // Borrows the arrays, which must outlive the call that sends them.
    pg::Params params_of(const StatementSql& sql) const;

  private:
    std::vector<std::vector<std::string>> arrays_;  // By relation.
    const BatchLayout& layout_;
};

// Applies batches by the statements of a projection file. Not thread-safe: one per loop. The file
// is kept; queueing the same batch twice sends the same bytes.
class SqlHandler : public Handler {
  public:
    explicit SqlHandler(ProjectionFile file);
    SqlHandler(const SqlHandler&) = delete;
    SqlHandler& operator=(const SqlHandler&) = delete;

    void open(pg::Session& session) override;
    // Tombstones have no type, so `types:` does not hold them back; `_deleted` lets them in.
    bool wants(const Event& event) const override;
    bool collect(const Event& event) override;
    size_t event_count() const override { return rows_.row_count(); }
    size_t byte_count() const override { return rows_.byte_count(); }
    void queue(pg::Pipeline& pipeline) override;
    std::string describe_statement(size_t index, const pg::ServerError& error) const override;
    void analyze(pg::Session& session) override;
    void clear() override;

    const ProjectionFile& file() const { return file_; }

  private:
    const ProjectionFile file_;
    const ApplyPlan plan_;
    const std::set<std::string, std::less<>> types_;
    const bool sees_tombstones_;
    ColumnReader reader_;
    BatchRows rows_;
    std::optional<BatchArrays> arrays_;
    std::set<std::string, std::less<>> tombstone_keys_;  // Of the batch being collected.
};

}  // namespace millrace
