#include "tests/support/admin_client.h"

#include <httplib.h>

#include <regex>

#include "tests/support/installed.h"

namespace millrace::test {

Page page_at(int port, const std::string& path) {
    httplib::Client client("127.0.0.1", port);
    client.set_read_timeout(2, 0);
    const auto answer = client.Get(path);
    return answer ? Page{answer->status, answer->body} : Page{};
}

std::string AdminClient::get(const std::string& path) const {
    const std::string log = process_.log();
    std::smatch found;
    const std::regex address("admin[^\\n]*127\\.0\\.0\\.1:([0-9]+)");
    if (!std::regex_search(log, found, address)) return "";
    return page_at(std::stoi(found[1]), path).body;
}

double AdminClient::metric(const std::string& line_start) const {
    return metric_in(get("/metrics"), line_start);
}

}  // namespace millrace::test
