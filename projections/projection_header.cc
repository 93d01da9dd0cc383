#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <set>

#include "core/nearest_name.h"
#include "projections/calendar.h"
#include "projections/column_value.h"
#include "projections/projection_parts.h"
#include "schema/topic_name.h"

namespace millrace {

namespace {

constexpr std::array<std::string_view, 7> kHeaderKeys{"version", "topics",  "types", "start",
                                                      "key",     "columns", "masked"};
constexpr std::array<std::string_view, 5> kColumnKeys{"type", "path", "header", "required",
                                                      "default"};
constexpr size_t kIdentifierSizeMax = 63;
constexpr int kVersionMax = 999999;  // Its digits are part of a schema's name.

bool has_only(std::string_view text, std::string_view allowed) {
    return text.find_first_not_of(allowed) == std::string_view::npos;
}

bool is_column_name(std::string_view name) {
    return !name.empty() && name.size() <= kIdentifierSizeMax && name[0] >= 'a' &&
           name[0] <= 'z' && has_only(name, "abcdefghijklmnopqrstuvwxyz0123456789_");
}

class HeaderParser {
  public:
    HeaderParser(int line, ProjectionFile& file, Mistakes& mistakes)
        : line_(line), file_(file), mistakes_(mistakes) {}

    void run(std::string_view yaml) {
        try {
            read(YAML::Load(std::string(yaml)));
        } catch (const YAML::Exception& error) {
            mistakes_.add(line_of(error.mark), "not YAML: " + error.msg +
                                                 "; quote a path with brackets: \"$.a[0].b\"");
        }
    }

  private:
    int line_of(const YAML::Mark& mark) const { return line_ + std::max(mark.line, 0); }
    int line_of(const YAML::Node& node) const { return line_of(node.Mark()); }

    void read(const YAML::Node& header) {
        if (!header.IsMap()) return mistakes_.add(line_, "the header is not a YAML map");
        check_keys(header, kHeaderKeys);
        read_version(header["version"]);
        read_names(header, "topics", file_.topics);
        read_names(header, "types", file_.types);
        read_start(header["start"]);
        read_columns(header["columns"]);
        read_key(header["key"]);
        read_masked(header["masked"]);
        for (const std::string& topic : file_.topics) {
            if (!is_topic_name(topic)) {
                mistakes_.add(line_of(header["topics"]), "not a topic's name: " + topic);
            }
        }
        if (!header["topics"]) mistakes_.add(line_, "topics: is missing");
    }

    // Unknown keys, and keys that stand there twice, of which yaml-cpp would drop one in silence.
    void check_keys(const YAML::Node& map, std::span<const std::string_view> known) {
        std::set<std::string> seen;
        for (const auto& entry : map) {
            const std::string key = entry.first.Scalar();
            if (!seen.insert(key).second) {
                mistakes_.add(line_of(entry.first), "\"" + key + "\" stands there twice");
            }
            if (std::find(known.begin(), known.end(), key) == known.end()) {
                mistakes_.add(line_of(entry.first),
                              "unknown key \"" + key + "\"" + suggestion_for(key, known));
            }
        }
    }

    void read_version(const YAML::Node& node) {
        if (!node) return mistakes_.add(line_, "version: is missing");
        const std::string& text = node.Scalar();
        const char* end = text.data() + text.size();
        const auto [rest, error] = std::from_chars(text.data(), end, file_.version);
        const bool is_whole = error == std::errc() && rest == end;
        if (is_whole && file_.version >= 1 && file_.version <= kVersionMax) return;
        mistakes_.add(line_of(node), "version: is a number from 1 to 999999");
    }

    void read_names(const YAML::Node& header, const std::string& key,
                    std::vector<std::string>& names) {
        const YAML::Node node = header[key];
        if (!node) return;
        if (!node.IsSequence() || node.size() == 0) {
            return mistakes_.add(line_of(node), key + ": is a list of names, [one, two]");
        }
        for (const YAML::Node& entry : node) {
            if (!entry.IsScalar() || entry.Scalar().empty()) {
                mistakes_.add(line_of(entry), key + ": is a list of names, [one, two]");
                continue;
            }
            const std::string& name = entry.Scalar();
            if (std::find(names.begin(), names.end(), name) != names.end()) {
                mistakes_.add(line_of(entry), key + ": names " + name + " twice");
            }
            names.push_back(name);
        }
    }

    void read_start(const YAML::Node& node) {
        if (!node) return;
        const std::string text = node.IsScalar() ? node.Scalar() : "";
        file_.start.text = text;
        if (text == "earliest") return;
        file_.start.kind = text == "latest" ? Start::Kind::kLatest : Start::Kind::kTime;
        if (text == "latest") return;
        const auto time = parse_rfc3339(text);
        if (time) file_.start.microseconds = *time;
        if (time) return;
        mistakes_.add(line_of(node),
                      "start: is earliest, latest or an RFC 3339 time with an offset");
    }

    void read_columns(const YAML::Node& node) {
        if (!node) return;
        if (!node.IsMap()) {
            return mistakes_.add(line_of(node), "columns: is a map of names to {type, path, ...}");
        }
        std::set<std::string> seen;
        for (const auto& entry : node) {
            const std::string name = entry.first.Scalar();
            const int line = line_of(entry.first);
            if (!seen.insert(name).second) {
                mistakes_.add(line, "column \"" + name + "\" stands there twice");
            }
            if (!is_column_name(name)) {
                mistakes_.add(line, "column \"" + name + "\" is not of the form [a-z][a-z0-9_]*");
            }
            read_column(name, line, entry.second);
        }
    }

    void read_column(const std::string& name, int line, const YAML::Node& node) {
        if (!node.IsMap()) {
            return mistakes_.add(line, "column " + name + " is a map: {type: ..., path: ...}");
        }
        check_keys(node, kColumnKeys);
        Column column;
        column.name = name;
        column.line = line;
        read_type(node["type"], column);
        read_source(node, column);
        read_required(node["required"], column);
        read_default(node["default"], column);
        file_.columns.push_back(std::move(column));
    }

    void read_type(const YAML::Node& node, Column& column) {
        if (!node) return mistakes_.add(column.line, "column " + column.name + " has no type:");
        const std::string text = node.IsScalar() ? node.Scalar() : "";
        const auto type = find_column_type(text);
        if (type) column.type = *type;
        if (type) return;
        std::string hint = suggestion_for(text, column_type_names());
        if (hint.empty()) {
            for (const std::string_view name : column_type_names()) {
                hint += (hint.empty() ? "; types are " : ", ") + std::string(name);
            }
        }
        mistakes_.add(line_of(node), "unknown type \"" + text + "\"" + hint);
    }

    void read_source(const YAML::Node& node, Column& column) {
        const YAML::Node path = node["path"];
        const YAML::Node header = node["header"];
        if (static_cast<bool>(path) == static_cast<bool>(header)) {
            return mistakes_.add(column.line,
                                 "column " + column.name + " has one of path: and header:");
        }
        const YAML::Node& source = path ? path : header;
        column.source = source.IsScalar() ? source.Scalar() : "";
        if (column.source.empty()) {
            return mistakes_.add(line_of(source), "path: and header: are text");
        }
        if (!path) return;
        column.path = parse_json_path(column.source);
        if (!column.path) {
            mistakes_.add(line_of(path), "bad path \"" + column.source +
                                             "\"; paths look like $.a.b or \"$.a[0].b\"");
        }
    }

    void read_required(const YAML::Node& node, Column& column) {
        if (!node) return;
        const std::string text = node.IsScalar() ? node.Scalar() : "";
        if (text != "true" && text != "false") {
            mistakes_.add(line_of(node), "required: is true or false");
        }
        column.is_required = text == "true";
    }

    void read_default(const YAML::Node& node, Column& column) {
        if (!node) return;
        if (!node.IsScalar()) {
            return mistakes_.add(line_of(node), "default: is a plain value; JSON goes in quotes");
        }
        if (column.is_required) {
            mistakes_.add(line_of(node), "a required column has no default:");
        }
        column.default_text = node.Scalar();
        std::string encoded;
        const Misfit misfit = append_plain_text(column.type, *column.default_text, encoded);
        if (misfit.empty()) return;
        mistakes_.add(line_of(node), "default: does not fit " +
                                         std::string(name_of(column.type)) + ": " +
                                         std::string(misfit));
    }

    void read_key(const YAML::Node& node) {
        if (!node) return;
        file_.key = node.IsScalar() ? node.Scalar() : "";
        std::vector<std::string_view> names;
        for (const Column& column : file_.columns) names.push_back(column.name);
        if (std::find(names.begin(), names.end(), file_.key) != names.end()) return;
        mistakes_.add(line_of(node), "key: names no column: \"" + file_.key + "\"" +
                                         suggestion_for(file_.key, names));
    }

    void read_masked(const YAML::Node& node) {
        if (!node) return;
        if (!node.IsSequence()) {
            return mistakes_.add(line_of(node), "masked: is a list of paths, [$.a.b, $.c]");
        }
        for (const YAML::Node& entry : node) {
            const std::string text = entry.IsScalar() ? entry.Scalar() : "";
            if (auto path = parse_json_path(text)) {
                file_.masked.push_back(*std::move(path));
            } else {
                mistakes_.add(line_of(entry), "bad path \"" + text +
                                                  "\"; paths look like $.a.b or \"$.a[0].b\"");
            }
        }
    }

    int line_;
    ProjectionFile& file_;
    Mistakes& mistakes_;
};

}  // namespace

void parse_header(std::string_view yaml, int line, ProjectionFile& file, Mistakes& mistakes) {
    HeaderParser(line, file, mistakes).run(yaml);
}

}  // namespace millrace
