#include "schema/raw_headers.h"

#include <gtest/gtest.h>

#include "schema/base64.h"
#include "schema/plain_text.h"

namespace millrace {
namespace {

TEST(RawHeaders, KeepBytesOrderAndRepeatedNames) {
    const std::string odd("\x00\xC3\x28", 3);
    const std::vector<Header> headers{{.name = "a", .value = "1"},
                                      {.name = "a", .value = odd},
                                      {.name = "none", .value = std::nullopt},
                                      {.name = "empty", .value = ""},
                                      {.name = "\xFF", .value = "x"}};

    const auto decoded = decode_headers(encode_headers(headers));

    ASSERT_TRUE(decoded);
    ASSERT_EQ(decoded->size(), headers.size());
    for (size_t i = 0; i < headers.size(); ++i) {
        EXPECT_EQ((*decoded)[i].name, headers[i].name);
        EXPECT_EQ((*decoded)[i].value, headers[i].value);
    }
}

TEST(RawHeaders, RefuseAnythingElse) {
    for (const char* json : {"", "{}", "[1]", "[[]]", "[[\"a\"]]", "[[\"a\", 1]]",
                             "[[\"a\", \"not base64\"]]", "[[null, null]]",
                             "[[\"a\", null, \"eA==\"]]", "[[\"a\", null, null, null]]"}) {
        EXPECT_FALSE(decode_headers(json)) << json;
    }
}

// RFC 4648, section 10.
TEST(Base64, IsThatOfTheRfc) {
    const std::vector<std::pair<std::string, std::string>> vectors{
        {"", ""},         {"f", "Zg=="},     {"fo", "Zm8="},        {"foo", "Zm9v"},
        {"foob", "Zm9vYg=="}, {"fooba", "Zm9vYmE="}, {"foobar", "Zm9vYmFy"}};
    for (const auto& [bytes, text] : vectors) {
        EXPECT_EQ(encode_base64(bytes), text);
        EXPECT_EQ(decode_base64(text), bytes);
    }
    for (const char* text : {"Z", "Zg=", "Zg", "Z===", "Zm9v!", "=Zg="}) {
        EXPECT_FALSE(decode_base64(text)) << text;
    }
}

TEST(PlainText, IsWhatPostgresqlTakes) {
    EXPECT_TRUE(is_plain_text(""));
    EXPECT_TRUE(is_plain_text("gr\xC3\xBC\xC3\x9F"));
    EXPECT_FALSE(is_plain_text(std::string("a\0b", 3)));
    EXPECT_FALSE(is_plain_text("\xC3\x28"));
    EXPECT_EQ(as_plain_text(std::string("a\0\xC3\x28", 4)), "a?" "?(");
}

}  // namespace
}  // namespace millrace
