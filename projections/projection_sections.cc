#include <algorithm>
#include <array>
#include <optional>

#include "core/nearest_name.h"
#include "projections/meta.h"
#include "projections/projection_parts.h"
#include "projections/sql_lexer.h"

namespace millrace {

namespace {

using Tokens = std::vector<SqlToken>;

constexpr std::array<std::string_view, 3> kRelations{"batch", "batch_last", "batch_merged"};
constexpr std::array<std::string_view, 5> kApplyWords{"insert", "update", "delete", "merge",
                                                      "with"};

template <typename Names>
bool contains(const Names& names, std::string_view name) {
    return std::find(names.begin(), names.end(), name) != names.end();
}

// The kind that a comment alone on its line marks, if it marks one.
std::optional<SectionKind> marker_kind(std::string_view text, const SqlToken& token) {
    if (token.kind != SqlTokenKind::kLineComment) return std::nullopt;
    const size_t line_begin = text.substr(0, token.begin).rfind('\n') + 1;
    const std::string_view before = text.substr(line_begin, token.begin - line_begin);
    if (before.find_first_not_of(" \t") != std::string_view::npos) return std::nullopt;
    std::string_view word = token.value;
    word.remove_prefix(2);
    const size_t first = word.find_first_not_of(" \t\r");
    const size_t last = word.find_last_not_of(" \t\r");
    if (first == std::string_view::npos) return std::nullopt;
    word = word.substr(first, last - first + 1);
    for (const auto kind : {SectionKind::kTable, SectionKind::kIndex, SectionKind::kApply}) {
        if (word == name_of(kind)) return kind;
    }
    return std::nullopt;
}

// The name that stands at `i`, of which a schema in front is stepped over.
size_t last_of_qualified_name(const Tokens& tokens, size_t i) {
    while (i + 2 < tokens.size() && tokens[i].is_identifier() && tokens[i + 1].is_symbol('.')) {
        i += 2;
    }
    return i;
}

class SectionParser {
  public:
    SectionParser(size_t begin, ProjectionFile& file, Mistakes& mistakes)
        : begin_(begin), text_(file.text), file_(file), mistakes_(mistakes) {}

    void run() {
        const SqlTokens lexed = lex_sql(text_, begin_);
        if (lexed.error) {
            return mistakes_.add(line_at(text_, lexed.error->offset), lexed.error->text);
        }
        split(lexed.tokens);
        for (const auto kind : {SectionKind::kTable, SectionKind::kApply}) {
            if (file_.sections_of(kind).empty()) {
                mistakes_.add(line_at(text_, text_.size()),
                              "no section \"-- " + std::string(name_of(kind)) + "\"");
            }
        }
        check_metas();
        check_tombstone_key();
    }

  private:
    int line_of(const SqlToken& token) const { return line_at(text_, token.begin); }

    void split(const Tokens& tokens) {
        std::optional<SectionKind> kind;
        int marker_line = 0;
        Tokens statement;
        for (const SqlToken& token : tokens) {
            const auto marked = marker_kind(text_, token);
            if (!marked) {
                if (!token.is_comment()) statement.push_back(token);
                continue;
            }
            end_section(kind, marker_line, statement);
            kind = marked;
            marker_line = line_of(token);
            statement.clear();
        }
        end_section(kind, marker_line, statement);
    }

    void end_section(std::optional<SectionKind> kind, int marker_line, Tokens& tokens) {
        if (!kind) {
            if (tokens.empty()) return;
            return mistakes_.add(line_of(tokens[0]),
                                 "a statement stands before the first \"-- table\"");
        }
        const std::string marker = "\"-- " + std::string(name_of(*kind)) + "\"";
        const auto semicolon = std::find_if(tokens.begin(), tokens.end(),
                                            [](const SqlToken& t) { return t.is_symbol(';'); });
        if (semicolon != tokens.end() && semicolon + 1 != tokens.end()) {
            mistakes_.add(line_of(*(semicolon + 1)),
                          "a second statement under " + marker + "; give it a marker of its own");
        }
        tokens.erase(semicolon, tokens.end());
        if (tokens.empty()) return mistakes_.add(marker_line, marker + " holds no statement");
        add_section(*kind, tokens);
    }

    void add_section(SectionKind kind, const Tokens& tokens) {
        Section section;
        section.kind = kind;
        section.line = line_of(tokens[0]);
        const size_t begin = tokens.front().begin;
        section.statement = text_.substr(begin, tokens.back().end - begin);
        for (const SqlToken& token : tokens) {
            if (!section.canonical.empty()) section.canonical += ' ';
            section.canonical += text_.substr(token.begin, token.end - token.begin);
            if (token.is_identifier()) section.identifiers.insert(token.value);
        }
        switch (kind) {
            case SectionKind::kTable: check_table(tokens, section); break;
            case SectionKind::kIndex: check_index(tokens); break;
            case SectionKind::kApply: check_apply(tokens); break;
        }
        file_.sections.push_back(std::move(section));
    }

    void check_table(const Tokens& tokens, Section& section) {
        size_t i = 1;
        if (tokens.size() > i && tokens[i].is_word("unlogged")) ++i;
        if (!tokens[0].is_word("create") || tokens.size() < i + 2 || !tokens[i].is_word("table")) {
            return mistakes_.add(line_of(tokens[0]),
                                 "\"-- table\" holds CREATE TABLE or CREATE UNLOGGED TABLE");
        }
        ++i;
        if (tokens[i].is_word("if")) {
            return mistakes_.add(line_of(tokens[i]),
                                 "IF NOT EXISTS would hide a table that is not this file's");
        }
        const SqlToken& name = tokens[last_of_qualified_name(tokens, i)];
        if (!name.is_identifier()) return mistakes_.add(line_of(name), "a table needs a name");
        if (&name != &tokens[i]) {
            mistakes_.add(line_of(name), "a table's name has no schema: each version has its own");
        }
        section.table = name.value;
        refuse_reserved(name, "table");
        for (const Section& other : file_.sections) {
            if (other.table == name.value) {
                mistakes_.add(line_of(name), "table " + name.value + " is made twice");
            }
        }
    }

    void check_index(const Tokens& tokens) {
        if (!tokens[0].is_word("create") || tokens.size() < 2) {
            return mistakes_.add(line_of(tokens[0]), "\"-- index\" holds CREATE INDEX");
        }
        if (tokens[1].is_word("unique")) {
            return mistakes_.add(line_of(tokens[1]),
                                 "a unique index stands in the table's own statement, else ON "
                                 "CONFLICT has nothing to meet while a rebuild loads");
        }
        if (!tokens[1].is_word("index")) {
            return mistakes_.add(line_of(tokens[0]), "\"-- index\" holds CREATE INDEX");
        }
        if (tokens.size() > 2 && tokens[2].is_word("concurrently")) {
            mistakes_.add(line_of(tokens[2]),
                          "CONCURRENTLY is not possible: an index is made in a transaction");
        }
    }

    void check_apply(const Tokens& tokens) {
        if (tokens[0].kind != SqlTokenKind::kName || !contains(kApplyWords, tokens[0].value)) {
            mistakes_.add(line_of(tokens[0]),
                          "\"-- apply\" holds INSERT, UPDATE, DELETE, MERGE or WITH");
        }
        for (const SqlToken& token : tokens) {
            if (token.kind != SqlTokenKind::kParameter) continue;
            mistakes_.add(line_of(token), "parameters like " + token.value +
                                              " are millrace's own; read columns of the batch");
        }
        for (size_t i = 0; i < tokens.size(); ++i) {
            if (is_cte_name(tokens, i)) refuse_reserved(tokens[i], "CTE");
        }
        const auto reads_batch = [](const SqlToken& token) {
            return token.is_identifier() && contains(kRelations, token.value);
        };
        if (std::none_of(tokens.begin(), tokens.end(), reads_batch)) {
            file_.warnings.push_back(mistakes_.at(line_of(tokens[0])) +
                                     "reads none of batch, batch_last and batch_merged");
        }
        if (!has_order_by(tokens)) {
            file_.warnings.push_back(
                mistakes_.at(line_of(tokens[0])) +
                "writes rows without ORDER BY: two batches can deadlock on rows they share");
        }
    }

    // name [(columns)] AS [[NOT] MATERIALIZED] "("
    static bool is_cte_name(const Tokens& tokens, size_t i) {
        if (!tokens[i].is_identifier() || !contains(kRelations, tokens[i].value)) return false;
        const auto at = [&](size_t n) { return n < tokens.size() ? &tokens[n] : nullptr; };
        size_t next = i + 1;
        if (at(next) && at(next)->is_symbol('(')) {
            while (at(next) && !at(next)->is_symbol(')')) ++next;
            ++next;
        }
        if (!at(next) || !at(next)->is_word("as")) return false;
        ++next;
        if (at(next) && at(next)->is_word("not")) ++next;
        if (at(next) && at(next)->is_word("materialized")) ++next;
        return at(next) && at(next)->is_symbol('(');
    }

    static bool has_order_by(const Tokens& tokens) {
        for (size_t i = 0; i + 1 < tokens.size(); ++i) {
            if (tokens[i].is_word("order") && tokens[i + 1].is_word("by")) return true;
        }
        return false;
    }

    void refuse_reserved(const SqlToken& name, const std::string& what) {
        if (!contains(kRelations, name.value)) return;
        mistakes_.add(line_of(name), "a " + what + " can't be named " + name.value +
                                         ": it is millrace's own relation");
    }

    // Names that begin with an underscore are the metas', or the author's own if a table has them.
    void check_metas() {
        std::vector<std::string_view> known;
        for (const MetaColumn& column : meta_columns()) known.push_back(column.name);
        for (const Section* section : file_.sections_of(SectionKind::kApply)) {
            for (const std::string& name : section->identifiers) {
                if (name[0] != '_' || find_meta(name) || is_of_a_table(name)) continue;
                mistakes_.add(section->line + line_in(*section, name),
                              "unknown column " + name + suggestion_for(name, known));
            }
        }
    }

    bool is_of_a_table(const std::string& name) const {
        const auto tables = file_.sections_of(SectionKind::kTable);
        return std::any_of(tables.begin(), tables.end(),
                           [&](const Section* table) { return table->mentions(name); });
    }

    static int line_in(const Section& section, const std::string& name) {
        for (const SqlToken& token : lex_sql(section.statement).tokens) {
            if (token.is_identifier() && token.value == name) {
                return line_at(section.statement, token.begin, 0);
            }
        }
        return 0;
    }

    // A tombstone has a message key and no payload, so a key out of the payload would be lost.
    void check_tombstone_key() {
        if (file_.key.empty() || !file_.mentions("_deleted")) return;
        mistakes_.add(1, "a file that mentions _deleted leaves out key:, for a tombstone has only "
                         "its message key");
    }

    size_t begin_;
    const std::string& text_;
    ProjectionFile& file_;
    Mistakes& mistakes_;
};

}  // namespace

void parse_sections(size_t begin, ProjectionFile& file, Mistakes& mistakes) {
    SectionParser(begin, file, mistakes).run();
}

}  // namespace millrace
