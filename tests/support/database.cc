#include "tests/support/database.h"

#include <libpq-fe.h>

#include <algorithm>
#include <cstdlib>
#include <iostream>
#include <memory>
#include <stdexcept>

#include "core/failure.h"
#include "core/uuid.h"
#include "schema/migrator.h"

namespace millrace::test {

namespace {

std::string server_url() {
    const char* url = std::getenv("MILLRACE_TEST_PG");
    if (url == nullptr) throw std::runtime_error("MILLRACE_TEST_PG is not set");
    return url;
}

pg::Session open(const std::string& url) {
    return pg::Session({.url = url,
                        .password = "",
                        .application_name = "millrace test",
                        .settings = pg::common_settings()});
}

std::string in_quotes(std::string_view value) {
    std::string text = "'";
    for (const char c : value) {
        if (c == '\'' || c == '\\') text += '\\';
        text += c;
    }
    return text + "'";
}

// The same server and role, another database; in libpq's keyword form.
std::string url_of(const std::string& database) {
    const std::unique_ptr<PQconninfoOption, decltype(&PQconninfoFree)> options(
        PQconninfoParse(server_url().c_str(), nullptr), &PQconninfoFree);
    if (!options) throw std::runtime_error("MILLRACE_TEST_PG is not a libpq URL");
    std::string url = "dbname=" + in_quotes(database);
    for (const PQconninfoOption* option = options.get(); option->keyword != nullptr; ++option) {
        if (option->val == nullptr || std::string_view(option->keyword) == "dbname") continue;
        url += std::string(" ") + option->keyword + "=" + in_quotes(option->val);
    }
    return url;
}

std::string fresh_name() {
    std::string name = "millrace_test_" + Uuid::random().text();
    std::replace(name.begin(), name.end(), '-', '_');
    return name;
}

}  // namespace

Database::Database(const std::string& template_name)
    : name_(fresh_name()), url_(url_of(name_)) {
    open(server_url())
        .execute("CREATE DATABASE " + name_ + " TEMPLATE " + template_name + " ENCODING 'UTF8'");
}

Database::Database(int lane_count) : Database(std::string("template0")) {
    pg::Session session = connect();
    pg::Transaction transaction(session);
    migrate(session, lane_count);
    transaction.commit();
}

Database::~Database() {
    try {
        open(server_url()).execute("DROP DATABASE " + name_ + " WITH (FORCE)");
    } catch (const Failure& failure) {
        std::cerr << "database " << name_ << " stays: " << failure.what() << '\n';
    }
}

pg::Session Database::connect() const { return open(url_); }

}  // namespace millrace::test
