#pragma once

#include <string>

#include "core/pg/session.h"

namespace millrace::test {

// A database of its own on the server that MILLRACE_TEST_PG names, with the project's schema in it;
// dropped at the end, whoever is still connected. Throws std::runtime_error when the variable is
// not set: a run without a server fails, it does not skip.
class Database {
  public:
    explicit Database(int lane_count = 12);
    // Without the project's schema.
    static Database bare() { return Database(std::string("template0")); }
    // As a dump that is restored beside its original; nobody may be connected to that.
    static Database copy_of(const Database& original) { return Database(original.name_); }
    ~Database();
    Database(const Database&) = delete;
    Database& operator=(const Database&) = delete;

    // As the superuser that the variable names, with the settings that all our sessions have.
    pg::Session connect() const;
    const std::string& url() const { return url_; }
    // The same database by another port of this machine, which leads to `server_address`.
    std::string url_by(int port) const;
    // host:port.
    std::string server_address() const;
    const std::string& name() const { return name_; }

  private:
    explicit Database(const std::string& template_name);

    std::string name_;
    std::string url_;
};

}  // namespace millrace::test
