-- +goose Up
-- A new table, because SQLite changes no CHECK.
CREATE TABLE dead_letters_new (
    id                 TEXT PRIMARY KEY,
    consumer_group     TEXT NOT NULL,
    original_topic     TEXT NOT NULL,
    original_partition INTEGER NOT NULL,
    original_offset    BIGINT NOT NULL,
    original_timestamp {{timestamp}} NOT NULL,
    record_key         {{bytes}},
    record_value       {{bytes}},
    headers            TEXT NOT NULL,
    event_id           TEXT NOT NULL,
    event_type         TEXT NOT NULL,
    error_type         TEXT NOT NULL,
    error_message      TEXT NOT NULL,
    retries            INTEGER NOT NULL,
    failures           INTEGER NOT NULL,
    failed_at          {{timestamp}} NOT NULL,
    state              TEXT NOT NULL CHECK (state IN ('waiting', 'redriving', 'failed_again', 'redriven', 'discarded')),
    updated_at         {{timestamp}} NOT NULL,
    actor              TEXT NOT NULL DEFAULT '',
    reason             TEXT NOT NULL DEFAULT '',
    -- The error without what differs from one message to the next.
    cause              TEXT NOT NULL,
    -- The begin of the key, for the index: keys may be longer than an index takes. Empty for letters of before.
    key_text           TEXT NOT NULL,
    -- What is missing of a letter that was too large; such a letter cannot be redriven.
    omitted            TEXT NOT NULL,
    edits              INTEGER NOT NULL DEFAULT 0,
    -- The job that redrove or discarded it last, or empty.
    job_id             TEXT NOT NULL DEFAULT '',
    -- When it became redriven or discarded; NULL until then.
    settled_at         {{timestamp}}
);

INSERT INTO dead_letters_new (id, consumer_group, original_topic, original_partition, original_offset, original_timestamp,
    record_key, record_value, headers, event_id, event_type, error_type, error_message, retries, failures, failed_at, state,
    updated_at, actor, reason, cause, key_text, omitted, settled_at)
SELECT id, consumer_group, original_topic, original_partition, original_offset, original_timestamp,
    record_key, record_value, headers, event_id, event_type, error_type, error_message, retries, failures, failed_at,
    CASE WHEN state = 'waiting' AND failures > 1 THEN 'failed_again' ELSE state END,
    updated_at, actor, reason, SUBSTR(error_message, 1, 200), '', CASE WHEN headers LIKE '%"omitted":"%' THEN 'the value' ELSE '' END,
    CASE WHEN state IN ('redriven', 'discarded') THEN updated_at END
FROM dead_letters;

DROP TABLE dead_letters;
ALTER TABLE dead_letters_new RENAME TO dead_letters;

-- A list is one walk along one of these, from the last failed to the first.
CREATE INDEX dead_letters_by_time ON dead_letters (failed_at DESC, id);
CREATE INDEX dead_letters_open ON dead_letters (failed_at DESC, id) WHERE settled_at IS NULL;
CREATE INDEX dead_letters_by_state ON dead_letters (state, failed_at DESC, id);
CREATE INDEX dead_letters_by_cause ON dead_letters (cause, failed_at DESC, id);
CREATE INDEX dead_letters_by_key ON dead_letters (key_text, failed_at DESC, id);
CREATE INDEX dead_letters_by_topic ON dead_letters (original_topic, failed_at DESC, id);
CREATE INDEX dead_letters_settled ON dead_letters (settled_at) WHERE settled_at IS NOT NULL;
-- What a job has to look at while it runs, which is never what has gone well.
CREATE INDEX dead_letters_by_job ON dead_letters (job_id, state) WHERE job_id <> '' AND state <> 'redriven';

-- How far the table knows its dead-letter topic.
CREATE TABLE dead_letter_index (
    topic       TEXT NOT NULL,
    topic_part  INTEGER NOT NULL,
    next_offset BIGINT NOT NULL,
    PRIMARY KEY (topic, topic_part)
);

-- A verb on many letters. Those numbered up to claimed have been taken, up to sent they are done with but for the outcome.
CREATE TABLE dead_letter_jobs (
    id           TEXT PRIMARY KEY,
    verb         TEXT NOT NULL CHECK (verb IN ('redrive', 'discard')),
    state        TEXT NOT NULL CHECK (state IN ('canary', 'running', 'stopping', 'stopped', 'done')),
    live         BOOLEAN NOT NULL,
    filter       TEXT NOT NULL,
    actor        TEXT NOT NULL,
    reason       TEXT NOT NULL,
    canary       INTEGER NOT NULL,
    rate         INTEGER NOT NULL,
    max_failures INTEGER NOT NULL,
    total        INTEGER NOT NULL,
    claimed      INTEGER NOT NULL,
    sent         INTEGER NOT NULL,
    taken        INTEGER NOT NULL,
    settled      INTEGER NOT NULL,
    failed       INTEGER NOT NULL,
    detail       TEXT NOT NULL,
    created_at   {{timestamp}} NOT NULL,
    updated_at   {{timestamp}} NOT NULL,
    stopped_at   {{timestamp}},
    ended_at     {{timestamp}},
    -- Whoever has a batch in hand has it until then, under this step's number.
    busy_until   {{timestamp}} NOT NULL,
    step         BIGINT NOT NULL,
    -- When the rate allows the next batch.
    next_at      {{timestamp}} NOT NULL
);

-- One job at a time.
CREATE UNIQUE INDEX dead_letter_jobs_live ON dead_letter_jobs (live) WHERE live;
CREATE INDEX dead_letter_jobs_ended ON dead_letter_jobs (ended_at) WHERE ended_at IS NOT NULL;

-- What a job's filter matched when it was begun, in the order of the records; deleted as it is done.
CREATE TABLE dead_letter_job_items (
    job    TEXT NOT NULL,
    seq    INTEGER NOT NULL,
    letter TEXT NOT NULL,
    PRIMARY KEY (job, seq)
);

-- Who did what to which letter or job, when and why.
CREATE TABLE dead_letter_audit (
    seq       {{identity}},
    at        {{timestamp}} NOT NULL,
    actor     TEXT NOT NULL,
    verb      TEXT NOT NULL,
    reason    TEXT NOT NULL,
    letter_id TEXT NOT NULL DEFAULT '',
    job_id    TEXT NOT NULL DEFAULT '',
    detail    TEXT NOT NULL DEFAULT '',
    -- The bytes that an edit replaced.
    before    {{bytes}}
);

CREATE INDEX dead_letter_audit_by_letter ON dead_letter_audit (letter_id, seq);
CREATE INDEX dead_letter_audit_by_job ON dead_letter_audit (job_id, seq);
CREATE INDEX dead_letter_audit_by_time ON dead_letter_audit (at);

-- +goose Down
DROP TABLE dead_letter_audit;
DROP TABLE dead_letter_job_items;
DROP TABLE dead_letter_jobs;
DROP TABLE dead_letter_index;
