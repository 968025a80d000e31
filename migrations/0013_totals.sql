-- The sums of `usage_rollup` over all endpoints, providers and keys: some rows a minute where there are hundreds, for the
-- questions that ask for no more than the model and the outcome. Kept in the same transactions.
CREATE TABLE usage_total (
    organization_id UUID NOT NULL REFERENCES organization (id),
    grain TEXT NOT NULL,
    start_us BIGINT NOT NULL,
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
    PRIMARY KEY (organization_id, grain, start_us, model, outcome)
);
INSERT INTO usage_total
SELECT organization_id, grain, start_us, model, outcome, SUM(requests), SUM(refused), SUM(errors), SUM(input_tokens),
    SUM(output_tokens), SUM(cached_input_tokens), SUM(cache_write_tokens), SUM(reasoning_tokens),
    SUM(input_audio_tokens), SUM(output_audio_tokens), SUM(unknown_token_requests), SUM(cost_nanos),
    SUM(unpriced_requests), SUM(unknown_cost_requests), SUM(duration_us), SUM(first_byte_us),
    SUM(first_byte_requests), SUM(first_token_us), SUM(first_token_requests)
FROM usage_rollup GROUP BY organization_id, grain, start_us, model, outcome;
