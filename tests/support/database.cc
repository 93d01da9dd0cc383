#include "tests/support/database.h"

#include <algorithm>
#include <cstdlib>
#include <iostream>
#include <stdexcept>

#include "core/failure.h"
#include "core/pg/connection_string.h"
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

std::string fresh_name() {
    std::string name = "millrace_test_" + Uuid::random().text();
    std::replace(name.begin(), name.end(), '-', '_');
    return name;
}

}  // namespace

Database::Database(const std::string& template_name)
    : name_(fresh_name()), url_(pg::with_database(server_url(), name_)) {
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

std::string Database::url_by(int port) const {
    // The last of two settings of a keyword counts.
    return url_ + " host=127.0.0.1 port=" + std::to_string(port);
}

std::string Database::server_address() const {
    return connect()
        .execute("SELECT host(inet_server_addr()) || ':' || inet_server_port()")
        .text(0, 0);
}

}  // namespace millrace::test
