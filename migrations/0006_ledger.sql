-- True: the node died while the request was open, and only what was known at its start is told; `outcome` is then
-- 'drained'.
ALTER TABLE usage_record ADD COLUMN unsettled BOOLEAN NOT NULL DEFAULT FALSE;
-- An object: the rule that refused it, and what it held against it. NULL: no rule did, or `refusal` says it all.
ALTER TABLE usage_record ADD COLUMN denial JSONB;
-- An array: what became of each attempt, where the row does not tell the only one itself.
ALTER TABLE usage_record ADD COLUMN attempts JSONB;
-- The requests that nobody knows the end of, for the audit of usage.
CREATE INDEX usage_record_unsettled ON usage_record (organization_id, started_at_us) WHERE unsettled;

-- What has been counted of one process of a node: batches, the numbers between them that never came, the records in
-- them, those that could not be read, and those that were in the ledger before.
ALTER TABLE usage_cursor ADD COLUMN batches BIGINT NOT NULL DEFAULT 0;
ALTER TABLE usage_cursor ADD COLUMN missing BIGINT NOT NULL DEFAULT 0;
ALTER TABLE usage_cursor ADD COLUMN received BIGINT NOT NULL DEFAULT 0;
ALTER TABLE usage_cursor ADD COLUMN unreadable BIGINT NOT NULL DEFAULT 0;
ALTER TABLE usage_cursor ADD COLUMN known BIGINT NOT NULL DEFAULT 0;
-- What the process said of itself in its newest batch. NULL: it keeps no books.
ALTER TABLE usage_cursor ADD COLUMN started BIGINT;
ALTER TABLE usage_cursor ADD COLUMN settled BIGINT;
ALTER TABLE usage_cursor ADD COLUMN in_flight BIGINT;
ALTER TABLE usage_cursor ADD COLUMN unsettled BIGINT;
ALTER TABLE usage_cursor ADD COLUMN lost BIGINT;
ALTER TABLE usage_cursor ADD COLUMN numbered BIGINT;
