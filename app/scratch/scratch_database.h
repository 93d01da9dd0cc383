#pragma once

#include <string>

#include "core/pg/session.h"

namespace millrace {

// A database of its own on the configured server, dropped at the end, whoever is connected.
class ScratchDatabase {
  public:
    // `server` leads to any database of the server. Throws kFatal `missing_right` if its role may
    // not make one, and what the session throws.
    explicit ScratchDatabase(const pg::SessionOptions& server, const std::string& owner);
    // Says on standard error what to do if it could not be dropped.
    ~ScratchDatabase();
    ScratchDatabase(const ScratchDatabase&) = delete;
    ScratchDatabase& operator=(const ScratchDatabase&) = delete;

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
