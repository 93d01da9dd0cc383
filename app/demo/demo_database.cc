#include "app/demo/demo_database.h"

#include <libpq-fe.h>

#include <iostream>
#include <memory>

#include "core/failure.h"
#include "core/uuid.h"

namespace millrace {

namespace {

constexpr std::string_view kNoRight = "42501";

std::string in_quotes(std::string_view value) {
    std::string text = "'";
    for (const char c : value) {
        if (c == '\'' || c == '\\') text += '\\';
        text += c;
    }
    return text + "'";
}

// In libpq's keyword form.
std::string url_of(const std::string& url, const std::string& database) {
    const std::unique_ptr<PQconninfoOption, decltype(&PQconninfoFree)> options(
        PQconninfoParse(url.c_str(), nullptr), &PQconninfoFree);
    if (!options) throw misconfigured("config", "postgres.url is no connection string of libpq");
    std::string text = "dbname=" + in_quotes(database);
    for (const PQconninfoOption* option = options.get(); option->keyword != nullptr; ++option) {
        if (option->val == nullptr || std::string_view(option->keyword) == "dbname") continue;
        text += std::string(" ") + option->keyword + "=" + in_quotes(option->val);
    }
    return text;
}

}  // namespace

DemoDatabase::DemoDatabase(const pg::SessionOptions& server, const std::string& owner)
    : server_(server),
      name_("millrace_" + owner + "_" + Uuid::random().text().substr(0, 8)),
      own_(server) {
    own_.url = url_of(server.url, name_);
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

DemoDatabase::~DemoDatabase() {
    try {
        pg::Session(server_).execute("DROP DATABASE " + name_ + " WITH (FORCE)");
    } catch (const Failure& failure) {
        std::cerr << "millrace: database " << name_ << " stays (" << failure.what()
                  << "): run DROP DATABASE " << name_ << "\n";
    }
}

}  // namespace millrace
