// The rules of docs/PROTOCOL.md and the tests that hold them name each other.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <regex>
#include <set>
#include <sstream>
#include <string>

namespace millrace {
namespace {

namespace fs = std::filesystem;
using testing::IsEmpty;

using Rules = std::set<std::string>;

const fs::path kRoot = MILLRACE_SOURCE_FOLDER;

std::string read(const fs::path& path) {
    std::ifstream file(path);
    std::ostringstream text;
    text << file.rdbuf();
    return text.str();
}

// "2.6 Every transaction ...": each rule begins a paragraph.
Rules rules_of(const std::string& document) {
    static const std::regex rule(R"(\n\n(\d+\.\d+[a-z]?) )");
    Rules rules;
    for (std::sregex_iterator match(document.begin(), document.end(), rule), end; match != end;
         ++match) {
        rules.insert((*match)[1]);
    }
    return rules;
}

// The numbers behind the word in a comment, as in "PROTOCOL 2.6, 3.7"; a line may end in between.
Rules rules_named_in(const std::string& text) {
    static const std::regex mention(
        R"(PROTOCOL[\s/]+(\d+(?:\.\d+)?[a-z]?(?:,[\s/]+\d+(?:\.\d+)?[a-z]?)*))");
    static const std::regex number(R"(\d+(?:\.\d+)?[a-z]?)");
    Rules rules;
    for (std::sregex_iterator match(text.begin(), text.end(), mention), end; match != end;
         ++match) {
        const std::string numbers = (*match)[1];
        for (std::sregex_iterator each(numbers.begin(), numbers.end(), number); each != end;
             ++each) {
            rules.insert(each->str());
        }
    }
    return rules;
}

Rules rules_named_by(const Rules& folders, const std::string& file_end) {
    Rules rules;
    for (const std::string& folder : folders) {
        for (const auto& entry : fs::recursive_directory_iterator(kRoot / folder)) {
            if (!entry.is_regular_file()) continue;
            if (!entry.path().filename().string().ends_with(file_end)) continue;
            if (entry.path().filename() == "protocol_test.cc") continue;
            rules.merge(rules_named_in(read(entry.path())));
        }
    }
    return rules;
}

std::string section_of(const std::string& rule) { return rule.substr(0, rule.find('.')); }

Rules without(const Rules& all, const Rules& taken) {
    Rules left;
    for (const std::string& rule : all) {
        if (!taken.contains(rule)) left.insert(rule);
    }
    return left;
}

TEST(Protocol, EachRuleIsNamedByATest) {
    const Rules rules = rules_of(read(kRoot / "docs/PROTOCOL.md"));

    EXPECT_GT(rules.size(), 30U);
    EXPECT_THAT(without(rules, rules_named_by({"tests"}, "_test.cc")), IsEmpty());
}

// In the sections that the document has; a bare section number is always good.
TEST(Protocol, EachRuleThatTheCodeNamesIsWrittenDown) {
    const Rules rules = rules_of(read(kRoot / "docs/PROTOCOL.md"));
    Rules sections;
    for (const std::string& rule : rules) sections.insert(section_of(rule));
    const Rules folders{"core", "schema", "relay", "consumers", "projections", "app"};
    Rules named = rules_named_by(folders, ".cc");
    named.merge(rules_named_by(folders, ".h"));
    named.merge(rules_named_by({"schema"}, ".sql"));
    named.merge(rules_named_by({"tests"}, "_test.cc"));

    Rules unknown;
    for (const std::string& rule : without(named, rules)) {
        if (rule != section_of(rule) && sections.contains(section_of(rule))) unknown.insert(rule);
    }

    EXPECT_THAT(unknown, IsEmpty());
}

TEST(Protocol, FindsTheRulesOfADocument) {
    EXPECT_EQ(rules_of("# Rules\n\n2.1 One.\n\n2.10 Ten, as in\n9.9 there.\n\n7.2a More.\n"),
              (Rules{"2.1", "2.10", "7.2a"}));
}

TEST(Protocol, FindsTheRulesThatACommentNames) {
    EXPECT_EQ(rules_named_in("// PROTOCOL 2.6, 3.7: why.\n// and (PROTOCOL 4.1). PROTOCOL 7.2a\n"),
              (Rules{"2.6", "3.7", "4.1", "7.2a"}));
    EXPECT_EQ(rules_named_in("// as PROTOCOL\n    // 6.4 says"), (Rules{"6.4"}));
}

}  // namespace
}  // namespace millrace
