#include "core/log.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <functional>
#include <limits>
#include <nlohmann/json.hpp>
#include <string>

namespace millrace {
namespace {

using testing::EndsWith;

// What the log writes meanwhile.
std::string written(const LogOptions& options, const std::function<void()>& write) {
    set_up_log(options);
    testing::internal::CaptureStderr();
    write();
    return testing::internal::GetCapturedStderr();
}

LogOptions as_text() { return {.level = "info", .format = "text", .instance = ""}; }
LogOptions as_json() { return {.level = "info", .format = "json", .instance = "host.1"}; }

TEST(Log, WritesTheTextThenItsFields) {
    const std::string line = written(as_text(), [] {
        log(LogLevel::kInfo, "relay", "publisher taken", {{"publisher", 3}, {"reason", "free"}});
    });

    EXPECT_THAT(line, EndsWith("publisher taken component=relay publisher=3 reason=free\n"));
}

// A value must not forge a field or a line of its own.
TEST(Log, QuotesAValueThatIsNotOnePlainWord) {
    const std::string line = written(as_text(), [] {
        log(LogLevel::kInfo, "relay", "said",
            {{"a", "two words"},
             {"b", "x=1"},
             {"c", "say \"hi\""},
             {"d", "line\nbreak"},
             {"e", ""}});
    });

    EXPECT_THAT(line, EndsWith(R"(said component=relay a="two words" b="x=1" c="say \"hi\"" )"
                               R"(d="line\nbreak" e="")"
                               "\n"));
}

TEST(Log, WritesOneJsonObjectALine) {
    const std::string line = written(as_json(), [] {
        log(LogLevel::kWarn, "relay", "a \"quoted\" text", {{"publisher", 3}, {"reason", "a\nb"}});
    });

    const nlohmann::json object = nlohmann::json::parse(line);

    EXPECT_EQ(object["level"], "warning");
    EXPECT_EQ(object["component"], "relay");
    EXPECT_EQ(object["text"], "a \"quoted\" text");
    EXPECT_EQ(object["publisher"], 3);
    EXPECT_EQ(object["reason"], "a\nb");
    EXPECT_EQ(object["instance"], "host.1");
    EXPECT_TRUE(object.contains("time"));
}

TEST(Log, MarksADurationAboveTheLimitAsSlow) {
    LogOptions options = as_json();
    options.slow_after = std::chrono::milliseconds(100);
    const auto line_of = [&](int duration_ms) {
        return nlohmann::json::parse(written(options, [&] {
            log(LogLevel::kInfo, "relay", "settled",
                {{"operation", "settle"}, {"duration_ms", duration_ms}});
        }));
    };

    EXPECT_EQ(line_of(101)["slow"], true);
    EXPECT_EQ(line_of(101)["duration_ms"], 101);
    EXPECT_EQ(line_of(101)["operation"], "settle");
    EXPECT_FALSE(line_of(100).contains("slow"));
}

// Half a character, as a server's message cut in the middle has it, used to be a reason to throw.
TEST(Log, ReplacesBytesThatAreNoUtf8) {
    const std::string line = written(as_json(), [] {
        log(LogLevel::kInfo, "relay", "said", {{"detail", std::string("caf\xC3")}});
    });

    EXPECT_EQ(nlohmann::json::parse(line)["detail"], "caf\uFFFD");
}

// Such a number used to end the process: it was parsed as a signed one.
TEST(Log, WritesTheLargestUnsignedNumber) {
    const std::string line = written(as_json(), [] {
        log(LogLevel::kInfo, "relay", "xid", {{"xid", std::numeric_limits<uint64_t>::max()}});
    });

    EXPECT_EQ(nlohmann::json::parse(line)["xid"], std::numeric_limits<uint64_t>::max());
}

TEST(Log, LeavesOutWhatIsBelowItsLevel) {
    const std::string lines = written({.level = "warn", .format = "text", .instance = ""}, [] {
        log(LogLevel::kInfo, "relay", "quiet");
        log(LogLevel::kError, "relay", "loud");
    });

    EXPECT_THAT(lines, Not(testing::HasSubstr("quiet")));
    EXPECT_THAT(lines, testing::HasSubstr("loud"));
}

}  // namespace
}  // namespace millrace
