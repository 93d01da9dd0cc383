// What people see of a payload whose projection masks fields of it.

#include "projections/masked_fields.h"

#include <gtest/gtest.h>

namespace millrace {
namespace {

std::string masked(std::string_view payload, const std::vector<std::string>& paths) {
    std::vector<JsonPath> parsed;
    for (const std::string& path : paths) parsed.push_back(*parse_json_path(path));
    return mask_fields(payload, parsed).value_or("not JSON");
}

TEST(MaskedFields, AreReplacedWithAllBelowThem) {
    EXPECT_EQ(masked(R"({"a": {"mail": "x", "n": 1}, "card": {"no": 4}})", {"$.a.mail", "$.card"}),
              R"({"a":{"mail":"***","n":1},"card":"***"})");
    EXPECT_EQ(masked(R"([{"mail": "x"}, {"mail": "y"}])", {"$[1].mail"}),
              R"([{"mail":"x"},{"mail":"***"}])");
    EXPECT_EQ(masked(R"("x@y.z")", {"$"}), R"("***")");
}

TEST(MaskedFields, ThatAreNotThereChangeNothing) {
    EXPECT_EQ(masked(R"({"a":null,"b":[1]})", {"$.a", "$.c.d", "$.b[1]", "$.b.c"}),
              R"({"a":null,"b":[1]})");
}

// The last one counts for a read model; the first one must not be shown for it.
TEST(MaskedFields, ThatOccurTwiceAreNotShownOnce) {
    EXPECT_EQ(masked(R"({"mail":"first","mail":"second"})", {"$.mail"}), R"({"mail":"***"})");
}

TEST(MaskedFields, OfAnEnvelopeAreThoseOfItsPayload) {
    EXPECT_EQ(masked(R"({"event_id":"e","payload":{"mail":"x"}})", {"$.mail"}),
              R"({"event_id":"e","payload":{"mail":"***"}})");
}

TEST(MaskedFields, CanNotBeToldInWhatIsNoJson) {
    EXPECT_EQ(masked("{\"mail\": \"x", {"$.mail"}), "not JSON");
}

}  // namespace
}  // namespace millrace
