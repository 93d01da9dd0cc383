#include "projections/sql_lexer.h"

#include <algorithm>

namespace millrace {

namespace {

bool is_space(char c) {
    return c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == '\f' || c == '\v';
}

bool is_digit(char c) { return c >= '0' && c <= '9'; }

bool is_name_start(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' ||
           static_cast<unsigned char>(c) >= 0x80;
}

bool is_name_part(char c) { return is_name_start(c) || is_digit(c) || c == '$'; }

char lower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; }

class Lexer {
  public:
    Lexer(std::string_view text, size_t begin) : text_(text), at_(begin) {}

    SqlTokens run() {
        for (;;) {
            while (at_ < text_.size() && is_space(text_[at_])) ++at_;
            if (at_ >= text_.size() || found_.error) return std::move(found_);
            next();
        }
    }

  private:
    char peek(size_t ahead = 0) const {
        return at_ + ahead < text_.size() ? text_[at_ + ahead] : '\0';
    }

    void next() {
        const char c = peek();
        if (c == '-' && peek(1) == '-') return line_comment();
        if (c == '/' && peek(1) == '*') return block_comment();
        if (c == '\'') return quoted(at_, at_, '\'', /*has_escapes=*/false);
        if (c == '"') return quoted(at_, at_, '"', /*has_escapes=*/false);
        if (c == '$') return dollar();
        if (is_digit(c) || (c == '.' && is_digit(peek(1)))) return number();
        if (is_name_start(c)) return name_or_prefixed_string();
        add(SqlTokenKind::kSymbol, at_, at_ + 1, std::string(1, c));
    }

    void line_comment() {
        const size_t end = std::min(text_.find('\n', at_), text_.size());
        add(SqlTokenKind::kLineComment, at_, end, std::string(text_.substr(at_, end - at_)));
    }

    // Block comments nest in PostgreSQL.
    void block_comment() {
        int depth = 0;
        for (size_t i = at_; i + 1 < text_.size(); ++i) {
            if (text_[i] == '/' && text_[i + 1] == '*') {
                ++depth;
                ++i;
            } else if (text_[i] == '*' && text_[i + 1] == '/') {
                ++i;
                if (--depth == 0) {
                    add(SqlTokenKind::kBlockComment, at_, i + 1, "");
                    return;
                }
            }
        }
        fail("a comment that does not end");
    }

    // `begin` is where the token starts, `quote_at` where its quote stands behind a prefix.
    void quoted(size_t begin, size_t quote_at, char quote, bool has_escapes) {
        std::string value;
        for (size_t i = quote_at + 1; i < text_.size(); ++i) {
            if (has_escapes && text_[i] == '\\' && i + 1 < text_.size()) {
                value += text_[++i];
                continue;
            }
            if (text_[i] != quote) {
                value += text_[i];
                continue;
            }
            if (i + 1 < text_.size() && text_[i + 1] == quote) {
                value += text_[++i];
                continue;
            }
            add(quote == '"' ? SqlTokenKind::kQuotedName : SqlTokenKind::kString, begin, i + 1,
                std::move(value));
            return;
        }
        fail(quote == '"' ? "a quoted name that does not end" : "a string that does not end");
    }

    void dollar() {
        size_t i = at_ + 1;
        if (is_digit(peek(1))) {
            while (i < text_.size() && is_digit(text_[i])) ++i;
            add(SqlTokenKind::kParameter, at_, i, std::string(text_.substr(at_, i - at_)));
            return;
        }
        while (i < text_.size() && is_name_part(text_[i]) && text_[i] != '$') ++i;
        if (i >= text_.size() || text_[i] != '$') {
            add(SqlTokenKind::kSymbol, at_, at_ + 1, "$");
            return;
        }
        const std::string_view tag = text_.substr(at_, i + 1 - at_);
        const size_t close = text_.find(tag, i + 1);
        if (close == std::string_view::npos) return fail("a dollar quote that does not end");
        add(SqlTokenKind::kString, at_, close + tag.size(),
            std::string(text_.substr(i + 1, close - i - 1)));
    }

    void number() {
        size_t i = at_;
        while (i < text_.size() && (is_digit(text_[i]) || text_[i] == '.')) ++i;
        if (i < text_.size() && lower(text_[i]) == 'e') {
            size_t exponent = i + 1;
            if (exponent < text_.size() && (text_[exponent] == '+' || text_[exponent] == '-')) {
                ++exponent;
            }
            if (exponent < text_.size() && is_digit(text_[exponent])) i = exponent;
            while (i < text_.size() && is_digit(text_[i])) ++i;
        }
        add(SqlTokenKind::kNumber, at_, i, std::string(text_.substr(at_, i - at_)));
    }

    void name_or_prefixed_string() {
        const char c = lower(peek());
        if (peek(1) == '\'' && (c == 'e' || c == 'b' || c == 'x' || c == 'n')) {
            return quoted(at_, at_ + 1, '\'', /*has_escapes=*/c == 'e');
        }
        if (c == 'u' && peek(1) == '&' && (peek(2) == '\'' || peek(2) == '"')) {
            return quoted(at_, at_ + 2, peek(2), /*has_escapes=*/false);
        }
        size_t i = at_;
        std::string value;
        while (i < text_.size() && is_name_part(text_[i])) value += lower(text_[i++]);
        add(SqlTokenKind::kName, at_, i, std::move(value));
    }

    void add(SqlTokenKind kind, size_t begin, size_t end, std::string value) {
        found_.tokens.push_back({kind, begin, end, std::move(value)});
        at_ = end;
    }

    void fail(std::string text) { found_.error = SqlLexError{at_, std::move(text)}; }

    std::string_view text_;
    size_t at_;
    SqlTokens found_;
};

}  // namespace

SqlTokens lex_sql(std::string_view text, size_t begin) { return Lexer(text, begin).run(); }

int line_at(std::string_view text, size_t offset, int first_line) {
    const std::string_view before = text.substr(0, std::min(offset, text.size()));
    return first_line + static_cast<int>(std::count(before.begin(), before.end(), '\n'));
}

}  // namespace millrace
