-- What upkeep looks for twice a second among sessions and revoked leases, of which most are of the past.
-- compatible-with: 3

-- Living sessions are few. Ended ones are removed after an hour, in which LeaseTasks may leave one for each of its answers: upkeep passes over
-- them. None has the time at which a living session expires: each heartbeat moves it, and its row is rewritten in place (HOT).
CREATE INDEX sessions_living ON sessions (shard, id) WHERE end_time IS NULL;
CREATE INDEX sessions_ended ON sessions (shard, end_time) WHERE end_time IS NOT NULL;
-- Serves the sweep. Without the shard: plans made on an empty table would look for sessions in it, and sweep by the primary key.
CREATE INDEX revoked_leases_time ON revoked_leases (revoke_time);
