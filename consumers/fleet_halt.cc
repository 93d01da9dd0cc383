#include "consumers/fleet_halt.h"

#include "consumers/projection_metrics.h"
#include "core/log.h"

namespace millrace {

FleetHalt::FleetHalt(const ProjectionOptions& options, const ProjectionShared& shared,
                     WorkerWatch& watch)
    : options_(options), shared_(shared), watch_(watch) {}

void FleetHalt::declare(const std::string& reason, const std::string& detail) {
    set_text(reason + ": " + detail + ". See " + reason +
             " in the README; when the cause is mended, 'millrace projection resume " +
             options_.projection.name + "' tries again");
    is_written_ = false;
    next_look_ = {};
    log(LogLevel::kError, "consumers", "projection halted",
        {{"projection", options_.projection.name}, {"reason", reason}, {"detail", detail}});
}

FleetHalt::Change FleetHalt::look(pg::Session& session) {
    const auto now = std::chrono::steady_clock::now();
    if (now < next_look_) return Change::kNone;
    next_look_ = now + options_.halt_poll;
    if (!is_written_) {
        shared_.halt.set(session, text_);
        is_written_ = true;
    }
    const std::string reason = shared_.halt.get(session).value_or("");
    const bool was_halted = is_halted();
    if (reason != text_) set_text(reason);
    if (is_halted() == was_halted) return Change::kNone;
    if (is_halted()) return Change::kHalted;
    log(LogLevel::kInfo, "consumers", "projection resumed",
        {{"projection", options_.projection.name}});
    return Change::kResumed;
}

void FleetHalt::set_text(const std::string& text) {
    text_ = text;
    watch_.set_halted(text);
    watch_.loop.set_waiting("");
    shared_.metrics.set_halted(text.substr(0, text.find(':')));
}

}  // namespace millrace
