#include "app/scratch/scratch_database.h"

#include <iostream>

#include "core/failure.h"
#include "core/pg/connection_string.h"
#include "core/uuid.h"

namespace millrace {

namespace {

constexpr std::string_view kNoRight = "42501";

}  // namespace

ScratchDatabase::ScratchDatabase(const pg::SessionOptions& server, const std::string& owner)
    : server_(server),
      name_("millrace_" + owner + "_" + Uuid::random().text().substr(0, 8)),
      own_(server) {
    own_.url = pg::with_database(server.url, name_);
    pg::Session session(server_);
    try {
        session.execute("CREATE DATABASE " + name_ + " TEMPLATE template0 ENCODING 'UTF8'");
    } catch (const Failure& failure) {
        if (failure.sqlstate() != kNoRight) throw;
        throw misconfigured("missing_right",
                            owner + " makes a database of its own, which this role may not: as a "
                                    "superuser run ALTER ROLE " +
                                session.execute("SELECT quote_ident(current_user)").text(0, 0) +
                                " CREATEDB");
    }
}

ScratchDatabase::~ScratchDatabase() {
    try {
        pg::Session(server_).execute("DROP DATABASE " + name_ + " WITH (FORCE)");
    } catch (const Failure& failure) {
        std::cerr << "millrace: database " << name_ << " stays (" << failure.what()
                  << "): run DROP DATABASE " << name_ << "\n";
    }
}

}  // namespace millrace
