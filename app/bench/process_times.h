#pragma once

#include <sys/types.h>

#include <set>

#include "core/pg/session.h"

namespace millrace {

// CPU seconds that a process and the children it has reaped used so far; 0 if it is gone.
double cpu_seconds(pid_t pid);
// The same of a postmaster with all its backends, living and ended.
double cpu_seconds_of_postgres(pid_t postmaster);
double resident_mebibytes(pid_t pid);

// The postmaster behind a session, if it runs on this machine; else 0.
pid_t local_postmaster(pg::Session& session);
// The TCP ports of a process's connections to that port: which backends are its own. Connections to
// others may have the same port as another process's.
std::set<int> local_ports(pid_t pid, int remote_port);

}  // namespace millrace
