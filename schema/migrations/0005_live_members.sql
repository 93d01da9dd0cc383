-- Who is alive: the lease has not expired and the lease connection's backend is there (PROTOCOL
-- 2.2). Roles that may not see backend_start see it as null, which means alive.

CREATE VIEW millrace.live_members AS
SELECT m.instance
FROM millrace.relay_members m
WHERE m.lease_until >= clock_timestamp()
  AND EXISTS (SELECT FROM pg_stat_activity a
              WHERE a.pid = m.pid
                AND (a.backend_start = m.backend_start OR a.backend_start IS NULL));
