// The README's tables against the code: configuration keys, metrics, reasons of failures.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <regex>
#include <set>
#include <sstream>
#include <string>

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
Names found(const std::string& text, const std::string& pattern) {
    const std::regex regex(pattern);
    Names names;
    for (std::sregex_iterator match(text.begin(), text.end(), regex), end; match != end; ++match) {
        names.insert((*match)[1]);
    }
    return names;
}

// The first column of the table below a heading of the second level.
Names table_of(const std::string& text, const std::string& heading) {
    const size_t begin = text.find("\n## " + heading + "\n");
    if (begin == std::string::npos) return {};
    const std::string section = text.substr(begin + 1, text.find("\n## ", begin + 1) - begin - 1);
    return found(section, "(?:^|\\n)\\| `([^`]+)` \\|");
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
    names.merge(found(text, "case FailureClass::k\\w+: return \"(pg_[a-z_]+)\""));
    return names;
}

std::string differences(const Names& documented, const Names& in_code) {
    std::string text;
    for (const std::string& name : in_code) {
        if (!documented.contains(name)) text += "README lacks " + name + "\n";
    }
    for (const std::string& name : documented) {
        if (!in_code.contains(name)) text += "no code has " + name + "\n";
    }
    return text;
}

TEST(Readme, ListsTheKeysOfTheConfiguration) {
    Names keys;
    for (const ConfigKey& key : config_keys()) keys.insert(std::string(key.name));

    EXPECT_EQ(differences(table_of(read(kRoot / "README.md"), "Configuration"), keys), "");
}

TEST(Readme, ListsTheMetrics) {
    const Names names = metric_names(code());

    EXPECT_THAT(names, IsSupersetOf({"millrace_build_info", "millrace_relay_redos_total"}));
    EXPECT_EQ(differences(table_of(read(kRoot / "README.md"), "Metrics"), names), "");
}

TEST(Readme, ListsTheReasonsOfFailures) {
    const Names names = failure_reasons(code());

    EXPECT_THAT(names, IsSupersetOf({"topic_missing", "database_behind_ledger", "pg_unreachable"}));
    const Names rows = table_of(read(kRoot / "README.md"), "When something is wrong");
    EXPECT_EQ(differences(rows, names), "");
}

TEST(Readme, FindsWhatIsMissingAndWhatIsTooMuch) {
    const Names documented = table_of(
        "\n## Metrics\n\n| `a` | x |\n| `b` | y |\n\n## Next\n| `c` | z |\n", "Metrics");

    EXPECT_THAT(documented, ElementsAre("a", "b"));
    EXPECT_EQ(differences(documented, {"a", "d"}), "README lacks d\nno code has b\n");
}

TEST(Readme, FindsReasonsOverLineBreaks) {
    const std::string text = "misconfigured(\n    \"one\", x); halt_lane(task.lane, \"two\",";

    EXPECT_THAT(failure_reasons(text), ElementsAre("one", "two"));
}

}  // namespace
}  // namespace millrace
