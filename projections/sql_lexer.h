#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace millrace {

enum class SqlTokenKind {
    kName,        // As PostgreSQL folds it: lower case. Keywords too.
    kQuotedName,  // Without its quotes.
    kString,      // Any kind of constant in quotes or dollar quotes; without them.
    kNumber,
    kParameter,  // $1
    kSymbol,     // One character.
    kLineComment,
    kBlockComment,
};

struct SqlToken {
    SqlTokenKind kind;
    size_t begin;  // In the text that was given, in bytes.
    size_t end;
    std::string value;

    bool is_comment() const {
        return kind == SqlTokenKind::kLineComment || kind == SqlTokenKind::kBlockComment;
    }
    bool is_identifier() const {
        return kind == SqlTokenKind::kName || kind == SqlTokenKind::kQuotedName;
    }
    // True for the unquoted word `word`, given in lower case.
    bool is_word(std::string_view word) const {
        return kind == SqlTokenKind::kName && value == word;
    }
    bool is_symbol(char symbol) const {
        return kind == SqlTokenKind::kSymbol && value[0] == symbol;
    }
};

struct SqlLexError {
    size_t offset;
    std::string text;
};

struct SqlTokens {
    std::vector<SqlToken> tokens;  // Up to the error, if there is one.
    std::optional<SqlLexError> error;
};

// Cuts SQL into tokens as PostgreSQL's scan.l does with standard_conforming_strings on, so that a
// semicolon or a name inside a string, a comment or a dollar quote is not taken for one. Comments
// are tokens; white space is not. Begins at byte `begin` of `text`.
SqlTokens lex_sql(std::string_view text, size_t begin = 0);

// The line, from `first_line`, that byte `offset` of `text` stands on.
int line_at(std::string_view text, size_t offset, int first_line = 1);

}  // namespace millrace
