#pragma once

#include <libpq-fe.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "core/failure.h"
#include "core/uuid.h"

namespace millrace::pg {

// What the server said of a statement that failed.
struct ServerError {
    std::string sqlstate;
    std::string message;
    std::string detail;
    std::string hint;
    std::string constraint;
    int position = 0;  // Of the character in the statement, from 1; 0: none given.

    // One line: message, detail, hint.
    std::string text() const;
};

// MR001, MR002, MR003 are raised by our own functions (schema/migrations).
constexpr std::string_view kPositionLost = "MR001";
constexpr std::string_view kPublisherLost = "MR002";
constexpr std::string_view kPublisherChanged = "MR003";

// The failure a caller without a rule of its own makes of it.
Failure failure_of(const ServerError& error);

// A statement's answer, in binary format. Owns the rows: views into it live as long as it does.
class Result {
  public:
    explicit Result(PGresult* result) : result_(result, &PQclear) {}

    int row_count() const { return PQntuples(result_.get()); }
    // Rows that an INSERT, UPDATE, DELETE or MERGE touched.
    int64_t affected_count() const;
    std::string_view command_tag() const { return PQcmdStatus(result_.get()); }

    bool is_null(int row, int column) const;
    // The value's bytes; for text, json and bytea these are the value itself.
    std::string_view bytes(int row, int column) const;
    std::string text(int row, int column) const { return std::string(bytes(row, column)); }
    std::optional<std::string> optional_text(int row, int column) const;
    // Any of smallint, integer, bigint, xid8, oid, timestamptz (microseconds since 2000-01-01).
    int64_t integer(int row, int column) const;
    double number(int row, int column) const;  // Of double precision.
    bool boolean(int row, int column) const;
    Uuid uuid(int row, int column) const;

    PGresult* raw() const { return result_.get(); }

  private:
    std::unique_ptr<PGresult, decltype(&PQclear)> result_;
};

ServerError error_of(const PGresult* result);

}  // namespace millrace::pg
