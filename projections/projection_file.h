#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "projections/column_type.h"
#include "projections/json_path.h"

namespace millrace {

// A projection file, the whole of a SQL read model:
//
//   file     = header section+
//   header   = "/* millrace projection" NEWLINE yaml "*/"
//   yaml     = version: NUMBER                  # 1 to 999999
//              topics:  [NAME, ...]
//              types:   [NAME, ...]             # left out: all; tombstones have none and pass
//              start:   earliest | latest | RFC 3339 time          # left out: earliest
//              key:     COLUMN                  # left out: the message key
//              masked:  [PATH, ...]             # of the payload: hidden where letters are shown
//              columns: {NAME: {type: TYPE, path: PATH | header: NAME,
//                               required: BOOL, default: TEXT}}    # the last two: left out or not
//   section  = marker statement [";"]
//   marker   = "-- table" | "-- index" | "-- apply", alone on its line
//
// NAME of a column is [a-z][a-z0-9_]*; TYPE is one of column_type.h, PATH one of json_path.h.
// Sections hold exactly one statement each and run in file order: CREATE TABLE; CREATE INDEX, not
// UNIQUE; INSERT, UPDATE, DELETE, MERGE or WITH. A marker inside a string or a block comment is
// none. At least one table and one apply section. Relations and metas an apply statement reads:
// meta.h.

enum class SectionKind { kTable, kIndex, kApply };
std::string_view name_of(SectionKind kind);

struct Section {
    SectionKind kind;
    std::string statement;  // Comments inside kept, so that lines count; no semicolon.
    int line = 0;           // Where the statement begins.
    std::string table;      // Of a table section: the name it makes.
    std::string canonical;  // The statement's tokens, without comments, one space between.
    std::set<std::string, std::less<>> identifiers;  // As PostgreSQL folds them.

    bool mentions(std::string_view name) const { return identifiers.contains(name); }
};

struct Column {
    std::string name;
    ColumnType type = ColumnType::kText;
    std::optional<JsonPath> path;  // Either this or `header`.
    std::string source;            // The path or the header's name as written.
    bool is_required = false;
    std::optional<std::string> default_text;
    int line = 0;
};

struct Start {
    enum class Kind { kEarliest, kLatest, kTime };
    Kind kind = Kind::kEarliest;
    std::string text = "earliest";  // As written.
    int64_t microseconds = 0;       // Since 2000-01-01, of kTime.
};

// A parsed file. A value; the same whether read from the folder or from the catalog.
struct ProjectionFile {
    std::string name;  // The file's name without `.sql`.
    std::string path;  // As messages show it.
    std::string text;
    int version = 0;
    std::vector<std::string> topics;
    std::vector<std::string> types;
    Start start;
    std::string key;  // Empty: the message key.
    std::vector<Column> columns;
    std::vector<JsonPath> masked;  // What of a payload people may not see.
    std::vector<Section> sections;
    std::vector<std::string> warnings;  // Each begins `file:line: `.

    std::vector<const Section*> sections_of(SectionKind kind) const;
    // True if an apply statement mentions `name`.
    bool mentions(std::string_view name) const;
    // The schema its tables live in: `<name>_v<version>`.
    std::string schema() const { return name + "_v" + std::to_string(version); }
    std::string at(int line) const { return path + ":" + std::to_string(line) + ": "; }
};

// Throws kFatal `projection_file` whose detail has one line per mistake, each `file:line: what`.
ProjectionFile parse_projection(const std::string& path, const std::string& text);
// The same, read from disk.
ProjectionFile read_projection_file(const std::filesystem::path& path);
// All `.sql` files of a folder, by name; one Failure holds the mistakes of all of them.
std::vector<ProjectionFile> read_projection_folder(const std::filesystem::path& folder);

// SHA-256 in hex of what the projection means: header without `start` and `masked`, sections
// without comments and without the white space between tokens (PROTOCOL 8.0).
std::string definition_hash(const ProjectionFile& file);

}  // namespace millrace
