// What a compiler does not check of STYLE: who may include whom, how wide a line is, which words
// stay out.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <map>
#include <regex>
#include <set>
#include <sstream>
#include <string>
#include <vector>

namespace millrace {
namespace {

namespace fs = std::filesystem;
using testing::ElementsAre;
using testing::IsEmpty;

using Faults = std::vector<std::string>;
using Folders = std::set<std::string>;

const fs::path kRoot = MILLRACE_SOURCE_FOLDER;
constexpr size_t kColumnMax = 100;

// What each code folder may include: itself and what lies below it. `relay` and `consumers` are
// beside each other.
const std::map<std::string, Folders> kMayInclude{
    {"core", {"core"}},
    {"schema", {"core", "schema"}},
    {"relay", {"core", "schema", "relay"}},
    {"consumers", {"core", "schema", "consumers"}},
    {"projections", {"core", "schema", "relay", "consumers", "projections"}},
    {"app", {"core", "schema", "relay", "consumers", "projections", "app"}},
    {"tests", {"core", "schema", "relay", "consumers", "projections", "app", "tests"}},
    {"bench", {"core", "schema", "relay", "consumers", "projections", "app", "bench"}},
};

struct Source {
    std::string path;  // From the root.
    std::string text;
};

std::string read(const fs::path& path) {
    std::ifstream file(path);
    std::ostringstream text;
    text << file.rdbuf();
    return text.str();
}

bool is_source(const fs::path& path) {
    const std::string extension = path.extension().string();
    static const std::set<std::string> kExtensions{".h", ".cc", ".sql", ".cmake", ".java"};
    return kExtensions.contains(extension) || path.filename() == "CMakeLists.txt";
}

// Those of the code folders that exist; which ones exist grows with the project.
std::vector<Source> sources() {
    std::vector<Source> found;
    for (const auto& [folder, may_include] : kMayInclude) {
        if (!fs::exists(kRoot / folder)) continue;
        for (const auto& entry : fs::recursive_directory_iterator(kRoot / folder)) {
            if (!entry.is_regular_file() || !is_source(entry.path())) continue;
            found.push_back({fs::relative(entry.path(), kRoot).string(), read(entry.path())});
        }
    }
    std::sort(found.begin(), found.end(),
              [](const Source& a, const Source& b) { return a.path < b.path; });
    return found;
}

std::string first_folder(const std::string& path) { return path.substr(0, path.find('/')); }

Faults include_faults(const Source& source) {
    static const std::regex include(R"re((?:^|\n)\s*#include "([^"]+)")re");
    const Folders& allowed = kMayInclude.at(first_folder(source.path));
    Faults faults;
    for (std::sregex_iterator match(source.text.begin(), source.text.end(), include), end;
         match != end; ++match) {
        const std::string included = (*match)[1];
        if (!allowed.contains(first_folder(included))) {
            faults.push_back(source.path + " includes " + included);
        }
    }
    return faults;
}

// In characters: the bytes that begin one in UTF-8.
size_t width_of(const std::string& line) {
    return static_cast<size_t>(std::count_if(line.begin(), line.end(), [](char c) {
        return (static_cast<unsigned char>(c) & 0xC0) != 0x80;
    }));
}

Faults width_faults(const Source& source) {
    Faults faults;
    std::istringstream lines(source.text);
    std::string line;
    for (int number = 1; std::getline(lines, line); ++number) {
        if (width_of(line) <= kColumnMax) continue;
        faults.push_back(source.path + ":" + std::to_string(number) + " has " +
                         std::to_string(width_of(line)) + " columns");
    }
    return faults;
}

// Written in halves, so that this file does not hold them.
Faults word_faults(const Source& source) {
    static const std::vector<std::string> forbidden{"TO" "DO", "FIX" "ME", "XX" "X:", "/ho" "me/",
                                                    "/ro" "ot/", "/wo" "rk/"};
    Faults faults;
    for (const std::string& word : forbidden) {
        if (source.text.find(word) != std::string::npos) {
            faults.push_back(source.path + " holds " + word);
        }
    }
    return faults;
}

Faults folder_name_faults(const Source& source) {
    static const std::regex vague(R"(/(utils?|common|helpers?|misc|impl)/)");
    if (!std::regex_search(source.path, vague)) return {};
    return {source.path + " stands in a folder whose name says nothing"};
}

Folders folders_with_a_map() {
    return {"core", "schema", "relay", "consumers", "projections", "app"};
}

// Everything between this heading and the next of the same level.
std::string section_of(const std::string& document, const std::string& heading) {
    const size_t begin = document.find("\n## " + heading + "\n");
    if (begin == std::string::npos) return "";
    return document.substr(begin, document.find("\n## ", begin + 1) - begin);
}

std::set<std::string> matches(const std::string& text, const std::string& expression) {
    const std::regex regex(expression);
    std::set<std::string> found;
    for (std::sregex_iterator match(text.begin(), text.end(), regex), end; match != end; ++match) {
        found.insert((*match)[1]);
    }
    return found;
}

// The names in the first column of a table's rows, which stand in backticks.
std::set<std::string> first_column(const std::string& section) {
    std::set<std::string> names;
    for (const std::string& cell : matches(section, "\n\\| ([^|]*) \\|")) {
        names.merge(matches(cell, "`([^`]+)`"));
    }
    return names;
}

bool is_there(const fs::path& folder, const std::string& name) {
    return fs::exists(folder / name) || fs::exists(folder / (name + ".h")) ||
           fs::exists(folder / (name + ".cc"));
}

// Names in a folder's map that lead nowhere, and files of the folder that it does not name.
Faults map_faults(const std::string& folder, const std::string& readme) {
    const std::set<std::string> named = first_column(section_of(readme, "Files"));
    Faults faults;
    for (const std::string& name : named) {
        if (!is_there(kRoot / folder, name)) faults.push_back(folder + " has no " + name);
    }
    for (const auto& entry : fs::directory_iterator(kRoot / folder)) {
        const fs::path& path = entry.path();
        if (!entry.is_regular_file() || !is_source(path)) continue;
        if (path.filename() == "CMakeLists.txt") continue;
        if (named.contains(path.filename().string()) || named.contains(path.stem().string())) {
            continue;
        }
        faults.push_back(folder + "/README.md does not name " + path.filename().string());
    }
    return faults;
}

template <typename Check>
Faults faults_of_all(Check check) {
    Faults all;
    for (const Source& source : sources()) {
        for (std::string& fault : check(source)) all.push_back(std::move(fault));
    }
    return all;
}

TEST(Tidy, LooksAtTheSourcesOfTheCheckout) {
    const std::vector<Source> all = sources();

    EXPECT_GT(all.size(), 90U);
    EXPECT_TRUE(std::any_of(all.begin(), all.end(), [](const Source& source) {
        return source.path == "tests/unit/tidy_test.cc";
    }));
}

TEST(Tidy, IncludesPointDown) { EXPECT_THAT(faults_of_all(include_faults), IsEmpty()); }

TEST(Tidy, FindsAnIncludeThatPointsUp) {
    EXPECT_THAT(include_faults({"core/a.cc", "#include \"schema/event.h\"\n"}),
                ElementsAre("core/a.cc includes schema/event.h"));
}

TEST(Tidy, FindsRelayAndConsumersIncludingEachOther) {
    EXPECT_THAT(include_faults({"relay/a.cc", "#include \"core/uuid.h\"\n"
                                              "#include \"consumers/handler.h\"\n"}),
                ElementsAre("relay/a.cc includes consumers/handler.h"));
    EXPECT_THAT(include_faults({"consumers/a.h", "#pragma once\n\n#include \"relay/floor.h\"\n"}),
                ElementsAre("consumers/a.h includes relay/floor.h"));
}

TEST(Tidy, FindsAnIncludeThatDoesNotBeginAtTheRoot) {
    EXPECT_THAT(include_faults({"relay/a.cc", "#include \"floor.h\"\n"}),
                ElementsAre("relay/a.cc includes floor.h"));
}

TEST(Tidy, LinesKeepToTheirColumns) { EXPECT_THAT(faults_of_all(width_faults), IsEmpty()); }

TEST(Tidy, FindsALineThatIsTooWide) {
    const std::string just_fits(kColumnMax, 'x');

    EXPECT_THAT(width_faults({"core/a.cc", just_fits + "\n" + just_fits + "x\n"}),
                ElementsAre("core/a.cc:2 has 101 columns"));
}

TEST(Tidy, CountsACharacterOfSeveralBytesOnce) {
    std::string wide;
    for (size_t i = 0; i < kColumnMax; ++i) wide += "ä";

    EXPECT_THAT(width_faults({"core/a.cc", wide}), IsEmpty());
}

TEST(Tidy, SourcesHoldNoForbiddenWords) { EXPECT_THAT(faults_of_all(word_faults), IsEmpty()); }

TEST(Tidy, FindsForbiddenWords) {
    EXPECT_THAT(word_faults({"core/a.cc", "// TO" "DO: later\n"}),
                ElementsAre("core/a.cc holds TO" "DO"));
    EXPECT_THAT(word_faults({"core/a.cc", "open(\"/ho" "me/me/x\")"}),
                ElementsAre("core/a.cc holds /ho" "me/"));
}

TEST(Tidy, FoldersHaveNamesThatSaySomething) {
    EXPECT_THAT(faults_of_all(folder_name_faults), IsEmpty());
    EXPECT_FALSE(folder_name_faults({"core/utils/a.cc", ""}).empty());
}

// STYLE 1.
TEST(Tidy, MapOfEachFolderNamesItsFiles) {
    Faults faults;
    for (const std::string& folder : folders_with_a_map()) {
        const std::string readme = read(kRoot / folder / "README.md");
        if (readme.empty()) faults.push_back(folder + " has no README.md");
        if (std::count(readme.begin(), readme.end(), '\n') > 80) {
            faults.push_back(folder + "/README.md has more than 80 lines");
        }
        for (std::string& fault : map_faults(folder, readme)) faults.push_back(std::move(fault));
    }

    EXPECT_THAT(faults, IsEmpty());
}

TEST(Tidy, FindsAMapThatNamesAFileThatIsGone) {
    EXPECT_THAT(map_faults("core", "# core\n\n## Files\n\n| `gone` | a file |\n"),
                testing::Contains("core has no gone"));
}

TEST(Tidy, FindsAFileThatTheMapLeavesOut) {
    EXPECT_THAT(map_faults("core", "# core\n\n## Files\n\n| `uuid` | an id |\n"),
                testing::Contains("core/README.md does not name failure.cc"));
}

}  // namespace
}  // namespace millrace
