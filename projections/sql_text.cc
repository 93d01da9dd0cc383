#include "projections/sql_text.h"

#include "projections/sql_lexer.h"

namespace millrace {

namespace {

// How many bytes of an author's own "WITH [RECURSIVE]" are replaced by ours; 0: he has none.
size_t with_size(std::string_view statement, bool& is_recursive) {
    size_t end = 0;
    for (const SqlToken& token : lex_sql(statement).tokens) {
        if (token.is_comment()) continue;
        if (end == 0 && !token.is_word("with")) return 0;
        if (end != 0) {
            is_recursive = token.is_word("recursive");
            return is_recursive ? token.end : end;
        }
        end = token.end;
    }
    return end;
}

// `name AS (SELECT ... FROM unnest($n::type[], ...) AS b(...))`
class RelationSql {
  public:
    RelationSql(Relation relation, StatementSql& sql) : relation_(relation), sql_(sql) {}

    std::string text(const BatchLayout& layout) {
        for (const BatchField& field : layout.fields) add(field.name, field.sql_type, field.wire);
        if (layout.has_count && relation_ != Relation::kBatch) {
            const MetaColumn& count = column_of(Meta::kCount);
            add(count.name, count.sql_type, count.wire);
        }
        return std::string(name_of(relation_)) + " AS (SELECT " + selected_ + " FROM unnest(" +
               parameters_ + ") AS b(" + names_ + "))";
    }

  private:
    void add(std::string_view name, std::string_view sql_type, pg::Type wire) {
        const bool is_numeric = sql_type == "numeric";  // Sent as text: column_type.h.
        const std::string sent = is_numeric ? "text" : std::string(sql_type);
        const std::string quoted = quote_identifier(name);
        sql_.types.push_back(pg::array_oid(wire));
        parameters_ += separator_ + "$" + std::to_string(sql_.types.size()) + "::" + sent + "[]";
        names_ += separator_ + quoted;
        selected_ += separator_ + quoted;
        if (is_numeric) selected_ += "::numeric AS " + quoted;
        separator_ = ", ";
    }

    Relation relation_;
    StatementSql& sql_;
    std::string separator_;
    std::string selected_;
    std::string parameters_;
    std::string names_;
};

// The byte where character `number`, from 1, begins.
size_t byte_of_character(std::string_view text, int number) {
    size_t byte = 0;
    for (int character = 1; byte < text.size(); ++byte) {
        const bool begins = (static_cast<unsigned char>(text[byte]) & 0xC0) != 0x80;
        if (begins && character++ == number) return byte;
    }
    return byte;
}

std::string qualified(std::string_view schema, std::string_view name) {
    return quote_identifier(schema) + "." + quote_identifier(name);
}

}  // namespace

std::string quote_identifier(std::string_view name) {
    std::string quoted = "\"";
    for (const char c : name) {
        if (c == '"') quoted += '"';
        quoted += c;
    }
    return quoted + '"';
}

StatementSql plain_sql(const Section& section) {
    StatementSql sql;
    sql.text = section.statement;
    return sql;
}

StatementSql apply_sql(const Section& section, const BatchLayout& layout) {
    StatementSql sql;
    sql.relations = relations_of(section);
    if (sql.relations.empty()) {
        sql.text = section.statement;
        return sql;
    }
    bool is_recursive = false;
    sql.author_skipped = with_size(section.statement, is_recursive);
    sql.text = is_recursive ? "WITH RECURSIVE " : "WITH ";
    for (const Relation relation : sql.relations) {
        if (relation != sql.relations.front()) sql.text += ", ";
        sql.text += RelationSql(relation, sql).text(layout);
    }
    sql.text += sql.author_skipped > 0 ? ", " : " ";
    sql.author_begin = sql.text.size();
    sql.text += section.statement.substr(sql.author_skipped);
    return sql;
}

int line_of_error(const Section& section, const StatementSql& sql, const pg::ServerError& error) {
    if (error.position <= 0) return section.line;
    const size_t byte = byte_of_character(sql.text, error.position);
    if (byte < sql.author_begin) return section.line;
    return line_at(section.statement, sql.author_skipped + byte - sql.author_begin, section.line);
}

std::string create_schema_sql(std::string_view schema) {
    return "CREATE SCHEMA " + quote_identifier(schema);
}

std::string create_view_sql(std::string_view view_schema, std::string_view schema,
                            std::string_view table) {
    return "CREATE VIEW " + qualified(view_schema, table) + " AS SELECT * FROM " +
           qualified(schema, table);
}

std::string analyze_sql(std::string_view schema, std::string_view table) {
    return "ANALYZE " + qualified(schema, table);
}

std::string snapshot_sql(std::string_view table, const std::vector<std::string>& columns) {
    std::string list;
    for (const std::string& column : columns) {
        list += (list.empty() ? "" : ", ") + quote_identifier(column);
    }
    return "SELECT ROW(" + list + ")::text COLLATE \"C\" AS row FROM " + quote_identifier(table) +
           " ORDER BY 1";
}

}  // namespace millrace
