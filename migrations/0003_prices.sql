-- The log of changes again, without a list of kinds: the binary knows them, and SQLite cannot change a CHECK in place.
ALTER TABLE change_log RENAME TO change_log_before;
CREATE TABLE change_log (
    organization_id UUID NOT NULL REFERENCES organization (id),
    revision BIGINT NOT NULL,
    kind TEXT NOT NULL,
    resource_id UUID NOT NULL,
    op TEXT NOT NULL CHECK (op IN ('put', 'remove')),
    urgent BOOLEAN NOT NULL,
    committed_at_us BIGINT NOT NULL,
    -- Also serves: everything above a revision.
    PRIMARY KEY (organization_id, revision, kind, resource_id)
);
INSERT INTO change_log SELECT * FROM change_log_before;
DROP TABLE change_log_before;

-- What tokens cost. `scope` shipped: a template's prices as the binary brings them; template: set by the organization
-- for a template; provider: set for one provider. `id` is the template's or the provider's. `prices` is an array.
CREATE TABLE price_list (
    organization_id UUID NOT NULL REFERENCES organization (id),
    scope TEXT NOT NULL CHECK (scope IN ('shipped', 'template', 'provider')),
    id UUID NOT NULL,
    prices JSONB NOT NULL,
    digest BYTEA NOT NULL,
    revision BIGINT NOT NULL,
    updated_at TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (organization_id, scope, id)
);

-- What people say of a key, for sums of usage. Outlives the key, as its usage does.
CREATE TABLE api_key_label (
    organization_id UUID NOT NULL REFERENCES organization (id),
    api_key_id UUID NOT NULL,
    name TEXT NOT NULL,
    value TEXT NOT NULL,
    -- Also serves: the labels of one key.
    PRIMARY KEY (organization_id, api_key_id, name)
);

-- NULL: not known.
ALTER TABLE usage_record ADD COLUMN cost_nanos BIGINT;
ALTER TABLE usage_record ADD COLUMN price_version TEXT;
-- The cost is not known because there was no price.
ALTER TABLE usage_record ADD COLUMN unpriced BOOLEAN NOT NULL DEFAULT FALSE;

-- Sums of usage records by minute, hour and day, kept in the transaction that inserts the records. `provider_id` is the
-- nil UUID where no attempt was made, `model` is the served or else the requested one, empty where neither is known.
-- Tokens and cost are of the requests for which they are known; the others are counted.
DROP TABLE usage_rollup;
CREATE TABLE usage_rollup (
    organization_id UUID NOT NULL REFERENCES organization (id),
    grain TEXT NOT NULL,
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
    cached_input_tokens BIGINT NOT NULL,
    cache_write_tokens BIGINT NOT NULL,
    reasoning_tokens BIGINT NOT NULL,
    input_audio_tokens BIGINT NOT NULL,
    output_audio_tokens BIGINT NOT NULL,
    unknown_token_requests BIGINT NOT NULL,
    cost_nanos BIGINT NOT NULL,
    unpriced_requests BIGINT NOT NULL,
    unknown_cost_requests BIGINT NOT NULL,
    duration_us BIGINT NOT NULL,
    first_byte_us BIGINT NOT NULL,
    first_byte_requests BIGINT NOT NULL,
    first_token_us BIGINT NOT NULL,
    first_token_requests BIGINT NOT NULL,
    -- Also serves: sums over a span of time.
    PRIMARY KEY (organization_id, grain, start_us, endpoint_id, provider_id, api_key_id, model, outcome)
);

-- The spans of time for which there are rows of a kind: what retention drops whole. On Postgres each is a table of its
-- own, a child of `usage_record` or `usage_rollup`, of this name.
CREATE TABLE usage_period (
    name TEXT PRIMARY KEY,
    kind TEXT NOT NULL,
    start_us BIGINT NOT NULL,
    end_us BIGINT NOT NULL
);
-- What is over, and since when there is anything.
CREATE INDEX usage_period_end ON usage_period (kind, end_us);
