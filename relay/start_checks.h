#pragma once

#include "core/pg/session.h"
#include "schema/installation.h"

namespace millrace {

// What must hold before a relay may publish; each failure is kFatal and says how to mend it:
// `floor_invariant` (columns, sequence), `writer_rights` (a role that could change pending rows or
// set ids, PROTOCOL 1), `pooler` (PROTOCOL 2.2), `claim_plan`, `signal_rights` (PROTOCOL 2.4).
// Blocks for a few statements.
void check_relay_start(pg::Session& session, const Installation& installation);

}  // namespace millrace
