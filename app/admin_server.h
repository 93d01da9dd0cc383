#pragma once

#include <memory>
#include <string>
#include <thread>

#include "app/health.h"
#include "core/metrics.h"

namespace millrace {

// Answers /livez, /readyz and /metrics from what `health` and `metrics` hold: no request ever asks
// a server. Its threads run from construction to destruction, which ends within 2 s.
class AdminServer {
  public:
    // `listen` is host:port; port 0 picks one. Throws kFatal `admin_listen` if that can't be had.
    AdminServer(const std::string& listen, const Health& health, const Metrics& metrics);
    ~AdminServer();
    AdminServer(const AdminServer&) = delete;
    AdminServer& operator=(const AdminServer&) = delete;

  private:
    struct Http;  // Keeps the library's header out of this one.

    void route(const Health& health, const Metrics& metrics);
    void bind(const std::string& listen);

    std::unique_ptr<Http> http_;
    std::jthread thread_;
};

}  // namespace millrace
