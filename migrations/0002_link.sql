-- The certificate authority of the link to the nodes: one row, so that every control plane on this store and every
-- start of one shows the same. Gateway tokens carry the fingerprint of `certificate` (DER). `sealed_key` is its private
-- key, sealed in its place.
CREATE TABLE link_authority (
    id BIGINT PRIMARY KEY CHECK (id = 1),
    organization_id UUID NOT NULL REFERENCES organization (id),
    certificate BYTEA NOT NULL,
    sealed_key BYTEA NOT NULL,
    created_at TIMESTAMPTZ NOT NULL
);

-- Which stream of the node is the newest: an older one that ends late must not call the node disconnected.
ALTER TABLE node ADD COLUMN connection UUID;
-- False: the node serves its last update but could not write it down.
ALTER TABLE node ADD COLUMN persisted BOOLEAN NOT NULL DEFAULT TRUE;

-- When a node first said that it serves a revision, or one above it.
CREATE TABLE node_receipt (
    organization_id UUID NOT NULL REFERENCES organization (id),
    node_id UUID NOT NULL REFERENCES node (id) ON DELETE CASCADE,
    revision BIGINT NOT NULL,
    applied_at_us BIGINT NOT NULL,
    -- Also serves: the first receipt of a node at or above a revision.
    PRIMARY KEY (node_id, revision)
);

-- How far the batches of one process of a node are counted. A batch at or below `seq` is a resend.
CREATE TABLE usage_cursor (
    organization_id UUID NOT NULL REFERENCES organization (id),
    gateway_id UUID NOT NULL,
    boot UUID NOT NULL,
    node TEXT NOT NULL,
    seq BIGINT NOT NULL,
    updated_at_us BIGINT NOT NULL,
    PRIMARY KEY (gateway_id, boot)
);

-- One row per authenticated request. Ids of endpoint, provider and key may outlive their rows, so nothing is
-- referenced. NULL is unknown, which is never the same as zero.
CREATE TABLE usage_record (
    organization_id UUID NOT NULL REFERENCES organization (id),
    id UUID NOT NULL,
    gateway_id UUID NOT NULL,
    node TEXT NOT NULL,
    started_at_us BIGINT NOT NULL,
    endpoint_id UUID NOT NULL,
    provider_id UUID,
    api_key_id UUID NOT NULL,
    admitted BOOLEAN NOT NULL,
    outcome TEXT NOT NULL CHECK (outcome IN ('answered', 'refused', 'vendor_error', 'upstream_failed',
        'upstream_broken', 'client_gone', 'drained')),
    refusal TEXT,
    status BIGINT,
    upstream_status BIGINT,
    requested_model TEXT,
    served_model TEXT,
    input_tokens BIGINT,
    output_tokens BIGINT,
    cached_input_tokens BIGINT,
    cache_write_tokens BIGINT,
    reasoning_tokens BIGINT,
    duration_us BIGINT NOT NULL,
    first_byte_us BIGINT,
    streamed BOOLEAN NOT NULL,
    request_bytes BIGINT NOT NULL,
    response_bytes BIGINT NOT NULL,
    method TEXT NOT NULL,
    path TEXT NOT NULL,
    revision BIGINT NOT NULL,
    -- Also serves: the request log, newest first (ids are UUIDv7), and that no record counts twice.
    PRIMARY KEY (organization_id, id)
);
-- The request log of one endpoint.
CREATE INDEX usage_record_endpoint ON usage_record (organization_id, endpoint_id, id);
-- The request log of one key.
CREATE INDEX usage_record_key ON usage_record (organization_id, api_key_id, id);

-- Sums of usage records by minute and by hour, kept in the transaction that inserts the records. `provider_id` is the
-- nil UUID where no attempt was made, `model` is the served or else the requested one, empty where neither is known.
CREATE TABLE usage_rollup (
    organization_id UUID NOT NULL REFERENCES organization (id),
    grain TEXT NOT NULL CHECK (grain IN ('minute', 'hour')),
    start_us BIGINT NOT NULL,
    endpoint_id UUID NOT NULL,
    provider_id UUID NOT NULL,
    api_key_id UUID NOT NULL,
    model TEXT NOT NULL,
    outcome TEXT NOT NULL,
    requests BIGINT NOT NULL,
    refused BIGINT NOT NULL,
    errors BIGINT NOT NULL,
    input_tokens BIGINT NOT NULL,
    output_tokens BIGINT NOT NULL,
    unknown_token_requests BIGINT NOT NULL,
    -- Also serves: sums over a span of time.
    PRIMARY KEY (organization_id, grain, start_us, endpoint_id, provider_id, api_key_id, model, outcome)
);
