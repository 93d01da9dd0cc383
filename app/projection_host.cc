#include "app/projection_host.h"

#include <algorithm>
#include <filesystem>

#include "app/options.h"
#include "core/log.h"
#include "core/nearest_name.h"
#include "core/stop.h"
#include "projections/sql_handler.h"
#include "schema/migrator.h"

namespace millrace {

namespace {

// Between looks at what can't be served yet.
constexpr std::chrono::seconds kLookAgainEvery{3};

StartAt start_of(const Start& start) {
    switch (start.kind) {
        case Start::Kind::kEarliest: return {.kind = StartAt::Kind::kEarliest};
        case Start::Kind::kLatest: return {.kind = StartAt::Kind::kLatest};
        case Start::Kind::kTime: break;
    }
    return {.kind = StartAt::Kind::kTime,
            .time = std::chrono::milliseconds((start.microseconds + pg::kEpochUs) / 1000)};
}

HaltSwitch halt_switch(const ProjectionFile& file) {
    const std::string name = file.name;
    const int version = file.version;
    return {.set =
                [name, version](pg::Session& session, const std::string& reason) {
                    halt_projection(session, name, version, reason);
                },
            .get = [name, version](pg::Session& session) -> std::optional<std::string> {
                for (const HaltedProjection& halted : halted_projections(session)) {
                    if (halted.name == name && halted.version == version) return halted.reason;
                }
                return std::nullopt;
            }};
}

bool is_default_and_absent(const Config& config) {
    std::error_code ignored;
    if (std::filesystem::exists(config.path("projections.folder"), ignored)) return false;
    for (const ConfigEntry& entry : config.entries()) {
        if (entry.name == "projections.folder") return entry.origin == "default";
    }
    return false;
}

void check_names(const Config& config, const std::vector<ProjectionFile>& files) {
    std::vector<std::string_view> known;
    for (const ProjectionFile& file : files) known.push_back(file.name);
    const auto check = [&known](const std::string& key, const std::string& name) {
        if (std::find(known.begin(), known.end(), name) != known.end()) return;
        throw misconfigured("config", key + ": there is no projection '" + name + "'" +
                                          suggestion_for(name, known));
    };
    for (const std::string& name : config.names("projections.only")) {
        check("projections.only", name);
    }
    constexpr std::string_view kOverrides = "projections.overrides.";
    for (const ConfigEntry& entry : config.entries()) {
        if (!entry.name.starts_with(kOverrides)) continue;
        const std::string rest = entry.name.substr(kOverrides.size());
        check("projections.overrides", rest.substr(0, rest.find('.')));
    }
}

// Why this process can't serve it, as far as the catalog says.
std::optional<Failure> why_not(const ServedProjection& found) {
    if (found.unreadable) return found.unreadable;
    const std::string hint(kMigrateHint);
    switch (found.serving) {
        case Serving::kServed:
        case Serving::kNeedsRebuild: return std::nullopt;  // The stored version is served.
        case Serving::kOrphan: return std::nullopt;  // Another process may have its file.
        case Serving::kDefinitionChanged:
            return halt("definition_changed",
                        "its file is not what 'migrate up' stored: restore it, or give the changed "
                        "one another name");
        case Serving::kNotInstalled: return halt("not_installed", "the database lacks it: " + hint);
    }
    return std::nullopt;
}

std::optional<Failure> what_is_missing(pg::Session& session, const ProjectionFile& file,
                                       const std::string& view_schema) {
    std::string missing;
    for (const std::string& name : missing_relations(session, file, view_schema)) {
        missing += (missing.empty() ? "" : ", ") + name;
    }
    if (missing.empty()) return std::nullopt;
    return halt("projection_incomplete", "it lacks " + missing + ": " + std::string(kMigrateHint));
}

prometheus::Gauge& halted_gauge(Metrics& metrics, const std::string& projection,
                                const std::string& reason) {
    return metrics.gauge("millrace_projection_halted", "1 while halted, by reason.",
                         {{"projection", projection}, {"reason", reason}});
}

}  // namespace

std::vector<ProjectionFile> configured_projections(const Config& config) {
    if (!config.boolean("projections.enabled")) return {};
    std::vector<ProjectionFile> files;
    if (!is_default_and_absent(config)) {
        files = read_projection_folder(config.path("projections.folder"));
    }
    check_names(config, files);
    return files;
}

bool is_chosen(const Config& config, const std::string& name) {
    const std::vector<std::string>& only = config.names("projections.only");
    return only.empty() || std::find(only.begin(), only.end(), name) != only.end();
}

InstalledProjections install_projections(const Config& config, pg::Session& session) {
    InstalledProjections all;
    for (const ProjectionFile& file : configured_projections(config)) {
        try {
            const Installed installed =
                install_projection(session, file, config.text("projections.view_schema"));
            const std::string name = file.name + " version " + std::to_string(file.version);
            all.done.push_back("projection " + name + (installed.is_new ? " made" : " is there"));
            for (const std::string& line : installed.not_probed) all.done.push_back(line);
        } catch (const Failure& failure) {
            if (failure.kind() != FailureKind::kFatal) throw;
            all.refused.push_back(failure);
        }
    }
    return all;
}

ProjectionHost::ProjectionHost(const Config& config, const Installation& installation,
                               std::string instance, kafka::Reaper& reaper, Metrics& metrics,
                               std::function<void(const Failure&)> on_fatal)
    : config_(config),
      installation_(installation),
      instance_(std::move(instance)),
      reaper_(reaper),
      metrics_(metrics),
      on_fatal_(std::move(on_fatal)),
      files_(configured_projections(config)) {}

void ProjectionHost::run(std::stop_token stop) {
    std::vector<std::jthread> threads;
    do {
        try {
            look(threads, stop);
            const std::lock_guard lock(mutex_);
            waits_for_.clear();
        } catch (const Failure& failure) {
            // Whatever it is, the projections that run already go on, and the relay does.
            log(LogLevel::kWarn, "projections", "projections not looked at",
                {{"reason", failure.reason()}, {"detail", failure.detail()}});
            const std::lock_guard lock(mutex_);
            waits_for_ = failure.what();
        }
    } while (wait_for(stop, is_complete() ? std::chrono::hours(24) : kLookAgainEvery));
}

void ProjectionHost::look(std::vector<std::jthread>& threads, const std::stop_token& stop) {
    pg::SessionOptions options = session_options(config_);
    options.may_wait = [stop] { return !stop.stop_requested(); };
    pg::Session session(std::move(options));
    {
        const std::lock_guard lock(mutex_);
        remarks_.clear();
    }
    for (const ServedProjection& found : match_projections(files_, list_projections(session))) {
        if (!is_chosen(config_, found.name)) continue;
        try {
            look_at(found, session, threads, stop);
        } catch (const Failure& failure) {
            if (session.is_broken()) throw;
            session.rollback();
            refuse(found.name, failure);
        }
    }
}

void ProjectionHost::look_at(const ServedProjection& found, pg::Session& session,
                             std::vector<std::jthread>& threads, const std::stop_token& stop) {
    if (found.serving == Serving::kOrphan) return;
    if (found.serving == Serving::kNeedsRebuild) {
        const std::lock_guard lock(mutex_);
        remarks_.push_back("projection " + found.name +
                           " needs a rebuild: needs_rebuild; its file has a higher version, the "
                           "stored one is served");
        if (!runners_.contains(found.name)) {
            log(LogLevel::kWarn, "projections", remarks_.back());
        }
    }
    {
        const std::lock_guard lock(mutex_);
        if (runners_.contains(found.name)) return;
    }
    std::optional<Failure> why = why_not(found);
    if (!why) {
        why = what_is_missing(session, *found.file, config_.text("projections.view_schema"));
    }
    if (why) {
        refuse(found.name, *why);
    } else {
        serve(*found.file, threads, stop);
    }
}

void ProjectionHost::serve(const ProjectionFile& file, std::vector<std::jthread>& threads,
                           const std::stop_token& stop) {
    ProjectionOptions options = projection_options(config_, installation_, instance_, file.name);
    options.projection = {.name = file.name, .version = file.version};
    options.group = installation_.prefix + "." + file.name + ".v" + std::to_string(file.version);
    options.topics = file.topics;
    options.start = start_of(file.start);
    auto runner = std::make_unique<ProjectionRunner>(
        std::move(options), [file] { return std::make_unique<SqlHandler>(file); },
        halt_switch(file), reaper_, metrics_, on_fatal_);
    threads.emplace_back([started = runner.get(), stop] { started->run(stop); });
    log(LogLevel::kInfo, "projections", "projection served",
        {{"projection", file.name}, {"version", file.version}});

    const std::lock_guard lock(mutex_);
    if (const auto was = refused_.find(file.name); was != refused_.end()) {
        halted_gauge(metrics_, file.name, was->second.reason()).Set(0);
        refused_.erase(was);
    }
    runners_.emplace(file.name, std::move(runner));
}

void ProjectionHost::refuse(const std::string& projection, const Failure& why) {
    const std::lock_guard lock(mutex_);
    const auto was = refused_.find(projection);
    if (was != refused_.end()) {
        if (was->second.reason() == why.reason()) return;
        halted_gauge(metrics_, projection, was->second.reason()).Set(0);
        refused_.erase(was);
    }
    refused_.emplace(projection, why);
    halted_gauge(metrics_, projection, why.reason()).Set(1);
    log(LogLevel::kError, "projections", "projection not served by this process",
        {{"projection", projection}, {"reason", why.reason()}, {"detail", why.detail()}});
}

bool ProjectionHost::is_complete() const {
    const std::lock_guard lock(mutex_);
    return refused_.empty() && waits_for_.empty();
}

LoopStatus ProjectionHost::status() const {
    const std::lock_guard lock(mutex_);
    LoopStatus all{.reasons = remarks_, .longest_silence = {}};
    if (!waits_for_.empty()) all.reasons.push_back("projections wait: " + waits_for_);
    for (const auto& [name, why] : refused_) {
        all.reasons.push_back("projection " + name + " is not served by this process: " +
                              why.what());
    }
    for (const auto& [name, runner] : runners_) {
        const ProjectionStatus status = runner->status();
        // That it is halted stands in the catalog, which PostgresProbe reads for all processes.
        for (const std::string& why : status.waiting) {
            all.reasons.push_back("projection " + name + " waits: " + why);
        }
        all.longest_silence = std::max(all.longest_silence, status.longest_silence);
    }
    return all;
}

}  // namespace millrace
