// The README's tables against the code: configuration keys, metrics, reasons of failures.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <regex>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include "app/config_keys.h"

namespace millrace {
namespace {

namespace fs = std::filesystem;
using testing::ElementsAre;
using testing::IsSupersetOf;

using Names = std::set<std::string>;

const fs::path kRoot = MILLRACE_SOURCE_FOLDER;
constexpr const char* kCodeFolders[] = {"core",      "schema",      "relay",
                                        "consumers", "projections", "app"};

std::string read(const fs::path& path) {
    std::ifstream file(path);
    std::ostringstream text;
    text << file.rdbuf();
    return text.str();
}

std::string code() {
    std::string all;
    for (const char* folder : kCodeFolders) {
        if (!fs::exists(kRoot / folder)) continue;
        for (const auto& entry : fs::recursive_directory_iterator(kRoot / folder)) {
            const std::string extension = entry.path().extension().string();
            if (extension == ".cc" || extension == ".h") all += read(entry.path()) + "\n";
        }
    }
    return all;
}

// The first group of each match.
std::vector<std::string> all_found(const std::string& text, const std::string& pattern) {
    const std::regex regex(pattern);
    std::vector<std::string> names;
    for (std::sregex_iterator match(text.begin(), text.end(), regex), end; match != end; ++match) {
        names.push_back((*match)[1]);
    }
    return names;
}

Names found(const std::string& text, const std::string& pattern) {
    const std::vector<std::string> names = all_found(text, pattern);
    return {names.begin(), names.end()};
}

// The first column of the table below a heading of the second level, row after row.
std::vector<std::string> table_of(const std::string& text, const std::string& heading) {
    const size_t begin = text.find("\n## " + heading + "\n");
    if (begin == std::string::npos) return {};
    const std::string section = text.substr(begin + 1, text.find("\n## ", begin + 1) - begin - 1);
    return all_found(section, "(?:^|\\n)\\| `([^`]+)` \\|");
}

Names metric_names(const std::string& text) {
    return found(text, "\"(millrace_(?:(?:relay|projection)_[a-z_]+|[a-z_]+_(?:up|info|total)))\"");
}

// Where a Failure is made, where a lane or all publishers are halted without one, and what the
// classes of PostgreSQL's errors are called.
Names failure_reasons(const std::string& text) {
    Names names = found(text,
                        "\\b(?:transient|unknown|lost|poison|halt|fatal|misconfigured)"
                        "\\(\\s*\"([a-z0-9_]+)\"");
    names.merge(found(text, "\\bFailure\\(\\s*FailureKind::k\\w+,\\s*\"([a-z0-9_]+)\""));
    names.merge(found(text, "\\bhalt_(?:lane|everything)\\([^\"]{1,60},\\s*\"([a-z0-9_]+)\""));
    names.merge(found(text, "\\bhalt_projection\\(\\s*\"([a-z0-9_]+)\""));
    names.merge(found(text, "case FailureClass::k\\w+: return \"((?:pg|set_aside)_[a-z_]+)\""));
    return names;
}

std::string differences(const std::vector<std::string>& rows, const Names& in_code) {
    std::string text;
    const Names documented(rows.begin(), rows.end());
    for (const std::string& name : in_code) {
        if (!documented.contains(name)) text += "README lacks " + name + "\n";
    }
    for (const std::string& name : documented) {
        if (!in_code.contains(name)) text += "no code has " + name + "\n";
        if (std::count(rows.begin(), rows.end(), name) > 1) text += "twice: " + name + "\n";
    }
    return text;
}

TEST(Readme, ListsTheKeysOfTheConfiguration) {
    Names keys;
    for (const ConfigKey& key : config_keys()) keys.insert(std::string(key.name));

    EXPECT_EQ(differences(table_of(read(kRoot / "README.md"), "Configuration"), keys), "");
}

TEST(Readme, NamesTheDefaultsOfTheConfiguration) {
    const std::string text = read(kRoot / "README.md");
    for (const ConfigKey& key : config_keys()) {
        const std::string fallback =
            key.fallback.empty() ? "" : "`" + std::string(key.fallback) + "`";
        const std::string begin = "\n| `" + std::string(key.name) + "` | " + fallback + " |";
        EXPECT_TRUE(text.find(begin) != std::string::npos) << begin;
    }
}

TEST(Readme, ListsTheMetrics) {
    const Names names = metric_names(code());

    EXPECT_THAT(names, IsSupersetOf({"millrace_build_info", "millrace_relay_redos_total"}));
    EXPECT_EQ(differences(table_of(read(kRoot / "README.md"), "Metrics"), names), "");
}

TEST(Readme, ListsTheReasonsOfFailures) {
    const Names names = failure_reasons(code());

    EXPECT_THAT(names, IsSupersetOf({"topic_missing", "database_behind_ledger", "pg_unreachable"}));
    EXPECT_EQ(differences(table_of(read(kRoot / "README.md"), "When something is wrong"), names),
              "");
}

TEST(Readme, FindsWhatIsMissingTooMuchOrThereTwice) {
    const std::vector<std::string> rows = table_of(
        "\n## Metrics\n\n| `a` | x |\n| `b` | y |\n| `a` | z |\n\n## Next\n| `c` | z |\n",
        "Metrics");

    EXPECT_THAT(rows, ElementsAre("a", "b", "a"));
    EXPECT_EQ(differences(rows, {"a", "d"}), "README lacks d\ntwice: a\nno code has b\n");
}

TEST(Readme, FindsReasonsOverLineBreaks) {
    const std::string text = "misconfigured(\n    \"one\", x); halt_lane(task.lane, \"two\",";

    EXPECT_THAT(failure_reasons(text), ElementsAre("one", "two"));
}

}  // namespace
}  // namespace millrace
