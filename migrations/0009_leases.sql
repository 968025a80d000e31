-- What of a rule about a calendar's day or month has been granted to nodes: counted before they may spend it.
CREATE TABLE quota_budget (
    organization_id UUID NOT NULL REFERENCES organization (id),
    -- Digest of owner, name, metric and window.
    rule BYTEA NOT NULL,
    -- Unix milliseconds of the period's end.
    period_ms BIGINT NOT NULL,
    granted BIGINT NOT NULL,
    PRIMARY KEY (organization_id, rule, period_ms)
);

-- How much of it went to which process. What a process that died had not spent stays counted.
CREATE TABLE quota_holding (
    organization_id UUID NOT NULL REFERENCES organization (id),
    rule BYTEA NOT NULL,
    period_ms BIGINT NOT NULL,
    boot UUID NOT NULL,
    node TEXT NOT NULL,
    granted BIGINT NOT NULL,
    -- As the process last said, when the row was written.
    spent BIGINT NOT NULL,
    -- Raised by every change: an answer to an older one changes nothing.
    version BIGINT NOT NULL,
    PRIMARY KEY (organization_id, rule, period_ms, boot)
);

-- Which control plane grants shares of rolling limits. One row: it is of the installation, kept under its first
-- organization.
CREATE TABLE quota_leader (
    organization_id UUID NOT NULL PRIMARY KEY REFERENCES organization (id),
    holder UUID NOT NULL,
    -- Raised by every renewal: who sees it stand still long enough, by a clock of its own, may take over. 0: given up.
    renewals BIGINT NOT NULL
);
