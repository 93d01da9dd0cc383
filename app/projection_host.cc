#include "app/projection_host.h"

#include <algorithm>
#include <filesystem>
#include <optional>
#include <thread>

#include "app/options.h"
#include "core/log.h"
#include "projections/catalog.h"
#include "projections/sql_handler.h"

namespace millrace {

namespace {

// Microseconds from 1970 to 2000, where PostgreSQL's times begin.
constexpr int64_t kPostgresEpochUs = 946684800000000;

StartAt start_of(const Start& start) {
    switch (start.kind) {
        case Start::Kind::kEarliest: return {.kind = StartAt::Kind::kEarliest};
        case Start::Kind::kLatest: return {.kind = StartAt::Kind::kLatest};
        case Start::Kind::kTime: break;
    }
    return {.kind = StartAt::Kind::kTime,
            .time = std::chrono::milliseconds((start.microseconds + kPostgresEpochUs) / 1000)};
}

HaltSwitch halt_switch(const ProjectionFile& file) {
    const std::string name = file.name;
    const int version = file.version;
    return {.set =
                [name, version](pg::Session& session, const std::string& reason) {
                    halt_projection(session, name, version, reason);
                },
            .get = [name, version](pg::Session& session) -> std::optional<std::string> {
                const std::optional<CatalogEntry> entry = find_projection(session, name, version);
                if (!entry) return std::nullopt;
                return entry->halted_reason;
            }};
}

void require_relations(pg::Session& session, const ProjectionFile& file,
                       const std::string& view_schema) {
    const std::vector<std::string> missing = missing_relations(session, file, view_schema);
    if (missing.empty()) return;
    throw misconfigured("projection_incomplete", "projection " + file.name + " lacks " +
                                                     missing.front() +
                                                     ": run 'millrace migrate up'");
}

}  // namespace

std::vector<ProjectionFile> configured_projections(const Config& config) {
    const std::filesystem::path folder = config.path("projections.folder");
    if (!std::filesystem::is_directory(folder)) return {};
    std::vector<ProjectionFile> files = read_projection_folder(folder);
    const std::vector<std::string>& only = config.names("projections.only");
    if (only.empty()) return files;
    std::erase_if(files, [&only](const ProjectionFile& file) {
        return std::find(only.begin(), only.end(), file.name) == only.end();
    });
    return files;
}

std::vector<std::string> install_projections(const Config& config, pg::Session& session) {
    std::vector<std::string> done;
    std::optional<Failure> refused;
    for (const ProjectionFile& file : configured_projections(config)) {
        try {
            const Installed installed =
                install_projection(session, file, config.text("projections.view_schema"));
            const std::string name = file.name + " version " + std::to_string(file.version);
            done.push_back("projection " + name + (installed.is_new ? " made" : " is there"));
            for (const std::string& line : installed.not_probed) done.push_back(line);
        } catch (const Failure& failure) {
            if (failure.reason() != "needs_rebuild" || refused) throw;
            refused = failure;
        }
    }
    if (refused) throw *refused;
    return done;
}

ProjectionHost::ProjectionHost(const Config& config, const Installation& installation,
                               const std::string& instance, kafka::Reaper& reaper,
                               Metrics& metrics, std::function<void(const Failure&)> on_fatal) {
    pg::Session session(session_options(config));
    for (const ServedProjection& found :
         match_projections(configured_projections(config), list_projections(session))) {
        if (!found.file) {
            // An orphan of another process's folder is no concern of this one.
            if (found.serving == Serving::kOrphan) continue;
            refused_.push_back("projection " + found.name + ": " +
                               std::string(name_of(found.serving)));
            log(LogLevel::kError, "projections", "projection not served by this process",
                {{"projection", found.name}, {"reason", name_of(found.serving)}});
            continue;
        }
        const ProjectionFile& file = *found.file;
        require_relations(session, file, config.text("projections.view_schema"));
        ProjectionOptions options = projection_options(config, installation, instance, file.name);
        options.projection = {.name = file.name, .version = file.version};
        options.group =
            installation.prefix + "." + file.name + ".v" + std::to_string(file.version);
        options.topics = file.topics;
        options.start = start_of(file.start);
        runners_.push_back(std::make_unique<ProjectionRunner>(
            std::move(options), [file] { return std::make_unique<SqlHandler>(file); },
            halt_switch(file), reaper, metrics, on_fatal));
        log(LogLevel::kInfo, "projections", "projection served",
            {{"projection", file.name}, {"version", file.version}});
    }
}

void ProjectionHost::run(std::stop_token stop) {
    std::vector<std::jthread> threads;
    for (const auto& runner : runners_) {
        threads.emplace_back([&runner, stop] { runner->run(stop); });
    }
}

LoopStatus ProjectionHost::status() const {
    LoopStatus all{.waiting = refused_, .longest_silence = {}};
    for (const auto& runner : runners_) {
        const ProjectionStatus status = runner->status();
        for (const std::string& why : status.waiting) {
            all.waiting.push_back("projection " + status.projection + ": " + why);
        }
        all.longest_silence = std::max(all.longest_silence, status.longest_silence);
    }
    return all;
}

}  // namespace millrace
