#include "core/pg/result.h"

#include <bit>
#include <cstdlib>

#include "core/check.h"

namespace millrace::pg {

namespace {

std::string field_of(const PGresult* result, int code) {
    const char* value = PQresultErrorField(result, code);
    return value == nullptr ? "" : value;
}

bool starts_with(std::string_view text, std::string_view prefix) {
    return text.substr(0, prefix.size()) == prefix;
}

bool is_conflict(std::string_view sqlstate) {
    return sqlstate == "40001" || sqlstate == "40P01" || sqlstate == "55P03";
}

bool is_connection(std::string_view sqlstate) {
    return starts_with(sqlstate, "08") || starts_with(sqlstate, "57P0") || sqlstate == "53300" ||
           sqlstate == "25006" || sqlstate == "25P03";
}

}  // namespace

std::string ServerError::text() const {
    std::string text = message;
    if (!detail.empty()) text += " (" + detail + ")";
    if (!hint.empty()) text += "; " + hint;
    return text;
}

Failure failure_of(const ServerError& error) {
    const std::string& state = error.sqlstate;
    const std::string detail = error.text() + (state.empty() ? "" : " [" + state + "]");
    if (state == kPositionLost) return lost("position_lost", detail).with_sqlstate(state);
    if (state == kPublisherLost) return lost("publisher_lost", detail).with_sqlstate(state);
    if (state == kPublisherChanged) return lost("publisher_changed", detail).with_sqlstate(state);
    if (state.empty()) return transient("pg_connection_lost", detail);
    if (is_connection(state)) return transient("pg_connection_lost", detail).with_sqlstate(state);
    if (is_conflict(state)) return transient("pg_conflict", detail).with_sqlstate(state);
    if (state == "57014" || state == "53200") {
        return transient("pg_overload", detail).with_sqlstate(state);
    }
    if (starts_with(state, "28")) return misconfigured("pg_refused", detail).with_sqlstate(state);
    return halt("pg_statement", detail).with_sqlstate(state);
}

int64_t Result::affected_count() const {
    return std::strtoll(PQcmdTuples(result_.get()), nullptr, 10);
}

bool Result::is_null(int row, int column) const {
    return PQgetisnull(result_.get(), row, column) == 1;
}

std::string_view Result::bytes(int row, int column) const {
    return {PQgetvalue(result_.get(), row, column),
            static_cast<size_t>(PQgetlength(result_.get(), row, column))};
}

std::optional<std::string> Result::optional_text(int row, int column) const {
    if (is_null(row, column)) return std::nullopt;
    return text(row, column);
}

int64_t Result::integer(int row, int column) const {
    const std::string_view value = bytes(row, column);
    MILLRACE_CHECK(value.size() == 2 || value.size() == 4 || value.size() == 8,
                   "an integer has 2, 4 or 8 bytes");
    // The first byte carries the sign.
    int64_t number = static_cast<signed char>(value[0]);
    for (size_t i = 1; i < value.size(); ++i) {
        number = number << 8 | static_cast<unsigned char>(value[i]);
    }
    return number;
}

double Result::number(int row, int column) const {
    MILLRACE_CHECK(bytes(row, column).size() == 8, "a double has 8 bytes");
    return std::bit_cast<double>(integer(row, column));
}

bool Result::boolean(int row, int column) const { return bytes(row, column) == "\1"; }

Uuid Result::uuid(int row, int column) const {
    MILLRACE_CHECK(bytes(row, column).size() == 16, "a uuid has 16 bytes");
    return Uuid::from_bytes(bytes(row, column).data());
}

ServerError error_of(const PGresult* result) {
    ServerError error;
    error.sqlstate = field_of(result, PG_DIAG_SQLSTATE);
    error.message = field_of(result, PG_DIAG_MESSAGE_PRIMARY);
    error.detail = field_of(result, PG_DIAG_MESSAGE_DETAIL);
    error.hint = field_of(result, PG_DIAG_MESSAGE_HINT);
    error.constraint = field_of(result, PG_DIAG_CONSTRAINT_NAME);
    error.position = std::atoi(field_of(result, PG_DIAG_STATEMENT_POSITION).c_str());
    if (error.message.empty()) error.message = PQresultErrorMessage(result);
    return error;
}

}  // namespace millrace::pg
