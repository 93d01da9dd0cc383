#include "app/admin_server.h"

#include <httplib.h>
#include <sys/socket.h>

#include <nlohmann/json.hpp>

#include "app/config_value.h"
#include "core/failure.h"
#include "core/log.h"

namespace millrace {

namespace {

constexpr std::chrono::seconds kSilenceMax{60};
constexpr size_t kThreadCount = 2;
constexpr int kPortMax = 65'535;

// The last colon divides host and port; an IPv6 host stands in brackets.
std::pair<std::string, int> split_address(const std::string& listen) {
    const size_t colon = listen.rfind(':');
    const int64_t port =
        colon == std::string::npos ? -1 : parse_count(listen.substr(colon + 1)).value_or(-1);
    std::string host = listen.substr(0, std::min(colon, listen.size()));
    if (host.size() > 2 && host.front() == '[' && host.back() == ']') {
        host = host.substr(1, host.size() - 2);
    }
    if (host.empty() || port < 0 || port > kPortMax) {
        throw misconfigured("admin_listen",
                            "admin.listen: '" + listen +
                                "' is not host:port, such as 127.0.0.1:8480");
    }
    return {host, static_cast<int>(port)};
}

void answer_json(httplib::Response& response, bool is_well, const nlohmann::ordered_json& body) {
    response.status = is_well ? 200 : 503;
    // A reason may hold bytes of a topic's name that are not UTF-8.
    constexpr auto kReplace = nlohmann::ordered_json::error_handler_t::replace;
    response.set_content(body.dump(-1, ' ', false, kReplace) + "\n", "application/json");
}

void answer_livez(const Health& health, httplib::Response& response) {
    const auto silence =
        std::chrono::duration_cast<std::chrono::seconds>(health.longest_silence());
    const bool is_alive = silence < kSilenceMax;
    answer_json(response, is_alive,
                {{"status", is_alive ? "alive" : "stuck"}, {"longest_silence_s", silence.count()}});
}

void answer_readyz(const Health& health, httplib::Response& response) {
    const Readiness readiness = health.readiness();
    const char* status = !readiness.is_ready()     ? "unavailable"
                         : readiness.is_degraded() ? "degraded"
                                                   : "ready";
    answer_json(response, readiness.is_ready(),
                {{"status", status},
                 {"degraded", readiness.is_degraded()},
                 {"postgres", readiness.postgres_up ? "up" : "down"},
                 {"kafka", readiness.kafka_up ? "up" : "down"},
                 {"reasons", readiness.reasons}});
}

}  // namespace

struct AdminServer::Http {
    httplib::Server server;
};

AdminServer::AdminServer(const std::string& listen, const Health& health, const Metrics& metrics)
    : http_(std::make_unique<Http>()) {
    route(health, metrics);
    bind(listen);
    thread_ = std::jthread([this] { http_->server.listen_after_bind(); });
    // stop() does nothing to a server that does not listen yet.
    while (!http_->server.is_running()) std::this_thread::yield();
}

AdminServer::~AdminServer() { http_->server.stop(); }

void AdminServer::route(const Health& health, const Metrics& metrics) {
    httplib::Server& server = http_->server;
    server.Get("/livez", [&health](const httplib::Request&, httplib::Response& response) {
        answer_livez(health, response);
    });
    server.Get("/readyz", [&health](const httplib::Request&, httplib::Response& response) {
        answer_readyz(health, response);
    });
    server.Get("/metrics", [&metrics](const httplib::Request&, httplib::Response& response) {
        response.set_content(metrics.text(), "text/plain; version=0.0.4");
    });
}

void AdminServer::bind(const std::string& listen) {
    httplib::Server& server = http_->server;
    const auto [host, port] = split_address(listen);
    server.new_task_queue = [] { return new httplib::ThreadPool(kThreadCount); };
    // A kept-alive connection would hold one of the few threads, and the stop.
    server.set_keep_alive_max_count(1);
    server.set_read_timeout(2, 0);
    server.set_write_timeout(2, 0);
    // The library's default, SO_REUSEPORT, would let a second process share the port in silence.
    server.set_socket_options([](int socket) {
        const int yes = 1;
        setsockopt(socket, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    });
    int bound = port;
    if (port == 0) {
        bound = server.bind_to_any_port(host);
    } else if (!server.bind_to_port(host, port)) {
        bound = -1;
    }
    if (bound <= 0) {
        throw misconfigured("admin_listen",
                            "admin.listen: " + listen +
                                " can't be listened on, another program may have the port; set "
                                "another, or port 0 to have one picked");
    }
    log(LogLevel::kInfo, "admin", "listening",
        {{"address", listen.substr(0, listen.rfind(':') + 1) + std::to_string(bound)}});
}

}  // namespace millrace
