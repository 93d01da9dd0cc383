#pragma once

#include <string>

#include "core/pg/session.h"

namespace millrace {

// A database of the demo's or bench's own on the configured server, dropped at the end, whoever is
// connected.
class DemoDatabase {
  public:
    // `server` leads to any database of the server. Throws kFatal `missing_right` if its role may
    // not make one, and what the session throws.
    explicit DemoDatabase(const pg::SessionOptions& server, const std::string& owner = "demo");
    // Says on standard error what to do if it could not be dropped.
    ~DemoDatabase();
    DemoDatabase(const DemoDatabase&) = delete;
    DemoDatabase& operator=(const DemoDatabase&) = delete;

    // `millrace_<owner>_` and 8 hex.
    const std::string& name() const { return name_; }
    // The same server and role, this database.
    const pg::SessionOptions& session_options() const { return own_; }

  private:
    const pg::SessionOptions server_;
    const std::string name_;
    pg::SessionOptions own_;
};

}  // namespace millrace
