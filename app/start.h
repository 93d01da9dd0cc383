#pragma once

#include <functional>
#include <optional>
#include <stop_token>
#include <string>

#include "app/config.h"
#include "core/kafka/reaper.h"
#include "schema/installation.h"

namespace millrace {

// What the loops need to know before they begin.
struct Ground {
    Installation installation;
};

// Checks that this process may run on these servers, waiting for a server that does not answer: a
// log line says so, at once and then every 30 s, and `show` is told what it waits for (empty:
// nothing). Nothing if stop was requested meanwhile; throws what waiting does not mend, kFatal.
std::optional<Ground> check_ground(const Config& config, bool migrate_first, kafka::Reaper& reaper,
                                   const std::function<void(const std::string&)>& show,
                                   std::stop_token stop);

}  // namespace millrace
