#include "core/pg/connection_string.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/failure.h"

namespace millrace::pg {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

TEST(ConnectionString, KeepsAllButTheDatabase) {
    EXPECT_THAT(with_database("postgresql://app@db:5433/shop?sslmode=require", "other"),
                AllOf(HasSubstr("dbname='other'"), HasSubstr("user='app'"), HasSubstr("host='db'"),
                      HasSubstr("port='5433'"), HasSubstr("sslmode='require'"),
                      Not(HasSubstr("shop"))));
    EXPECT_THAT(with_database("host=db dbname=shop", "other"), Not(HasSubstr("shop")));
}

TEST(ConnectionString, QuotesWhatAValueMayHold) {
    EXPECT_THAT(with_database(R"(host=db password='it\'s \\ here')", "other"),
                HasSubstr(R"(password='it\'s \\ here')"));
}

TEST(ConnectionString, IsRefusedWhenLibpqCantReadIt) {
    EXPECT_THROW(with_database("host db", "other"), Failure);
}

}  // namespace
}  // namespace millrace::pg
