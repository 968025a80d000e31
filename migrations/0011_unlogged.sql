-- Requests that are counted in the sums and are not in the request log, by hour: beyond the rate that the log takes, or
-- after the time that it is kept for. What is in the log and this together are the sums by hour.
CREATE TABLE usage_unlogged (
    organization_id UUID NOT NULL REFERENCES organization (id),
    -- Unix microseconds, a whole hour.
    start_us BIGINT NOT NULL,
    requests BIGINT NOT NULL,
    input_tokens BIGINT NOT NULL,
    output_tokens BIGINT NOT NULL,
    PRIMARY KEY (organization_id, start_us)
);
