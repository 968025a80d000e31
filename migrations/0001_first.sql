-- The store's own identity: one row. `lineage` is random, made with the store; revisions of different lineages cannot
-- be compared. `organization_id` names the organization that the first start made.
CREATE TABLE installation (
    id BIGINT PRIMARY KEY CHECK (id = 1),
    lineage UUID NOT NULL,
    organization_id UUID NOT NULL,
    created_at TIMESTAMPTZ NOT NULL
);

-- The tenant, and its two counters. A configuration transaction raises `revision` first and so holds this row until it
-- commits: N+1 cannot exist before N is visible. `audit_seq` and `audit_hash` are the head of the audit chain.
CREATE TABLE organization (
    id UUID PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    display_name TEXT NOT NULL,
    revision BIGINT NOT NULL,
    audit_seq BIGINT NOT NULL,
    audit_hash BYTEA NOT NULL,
    created_at TIMESTAMPTZ NOT NULL
);

-- What each revision changed, so that a node can be brought forward without everything. Bodies are never here: they
-- come from the current tables, so only the newest entry of a resource matters.
CREATE TABLE change_log (
    organization_id UUID NOT NULL REFERENCES organization (id),
    revision BIGINT NOT NULL,
    kind TEXT NOT NULL CHECK (kind IN ('settings', 'template', 'endpoint', 'api_key', 'secret')),
    resource_id UUID NOT NULL,
    op TEXT NOT NULL CHECK (op IN ('put', 'remove')),
    urgent BOOLEAN NOT NULL,
    committed_at_us BIGINT NOT NULL,
    -- Also serves: everything above a revision.
    PRIMARY KEY (organization_id, revision, kind, resource_id)
);

-- One row per attempted mutation and per sign-in, chained by hash within an organization.
CREATE TABLE audit (
    id UUID PRIMARY KEY,
    organization_id UUID NOT NULL REFERENCES organization (id),
    seq BIGINT NOT NULL,
    at TIMESTAMPTZ NOT NULL,
    actor_kind TEXT NOT NULL CHECK (actor_kind IN ('system', 'user', 'token', 'anonymous')),
    actor_id UUID,
    action TEXT NOT NULL,
    resource_kind TEXT NOT NULL,
    resource_id UUID,
    outcome TEXT NOT NULL CHECK (outcome IN ('done', 'denied', 'failed')),
    request_id UUID,
    changes JSONB NOT NULL,
    previous_hash BYTEA NOT NULL,
    hash BYTEA NOT NULL
);
-- The audit list, newest first, and the walk of `audit verify`; no two entries may follow one predecessor.
CREATE UNIQUE INDEX audit_seq ON audit (organization_id, seq);

-- ---- people ---------------------------------------------------------------------------------------------------------

-- Someone who signs in to the console. `email` is stored lower case. `password` is an argon2id PHC string.
CREATE TABLE member (
    id UUID PRIMARY KEY,
    organization_id UUID NOT NULL REFERENCES organization (id),
    email TEXT NOT NULL,
    display_name TEXT NOT NULL,
    role TEXT NOT NULL CHECK (role IN ('owner', 'admin', 'editor', 'key_manager', 'viewer', 'auditor')),
    password TEXT,
    created_at TIMESTAMPTZ NOT NULL,
    updated_at TIMESTAMPTZ NOT NULL
);
-- Sign-in by email; one account per address.
CREATE UNIQUE INDEX member_email ON member (email);
-- The list of members.
CREATE INDEX member_organization ON member (organization_id, id);

-- A signed-in browser: SHA-256 of the cookie's value.
CREATE TABLE session (
    id UUID PRIMARY KEY,
    organization_id UUID NOT NULL REFERENCES organization (id),
    member_id UUID NOT NULL REFERENCES member (id) ON DELETE CASCADE,
    digest BYTEA NOT NULL UNIQUE,
    created_at TIMESTAMPTZ NOT NULL,
    last_seen_at TIMESTAMPTZ NOT NULL,
    expires_at TIMESTAMPTZ NOT NULL
);
-- Ending every session of one member.
CREATE INDEX session_member ON session (organization_id, member_id);

-- A personal access token: SHA-256 of the whole text.
CREATE TABLE access_token (
    id UUID PRIMARY KEY,
    organization_id UUID NOT NULL REFERENCES organization (id),
    member_id UUID NOT NULL REFERENCES member (id) ON DELETE CASCADE,
    name TEXT NOT NULL,
    digest BYTEA NOT NULL UNIQUE,
    last4 TEXT NOT NULL,
    created_at TIMESTAMPTZ NOT NULL,
    expires_at TIMESTAMPTZ,
    last_used_at TIMESTAMPTZ
);
-- The list of one member's tokens.
CREATE INDEX access_token_member ON access_token (organization_id, member_id, id);

-- Single-use ways in: the first owner's bootstrap token and sign-in links. `used_at` is set by compare-and-set.
CREATE TABLE one_time_token (
    id UUID PRIMARY KEY,
    organization_id UUID NOT NULL REFERENCES organization (id),
    purpose TEXT NOT NULL CHECK (purpose IN ('bootstrap', 'sign_in')),
    member_id UUID REFERENCES member (id) ON DELETE CASCADE,
    digest BYTEA NOT NULL UNIQUE,
    created_at TIMESTAMPTZ NOT NULL,
    expires_at TIMESTAMPTZ NOT NULL,
    used_at TIMESTAMPTZ
);

-- Failed sign-ins, by account and by address; kept so that a restart forgives nobody.
CREATE TABLE login_throttle (
    organization_id UUID NOT NULL REFERENCES organization (id),
    subject TEXT NOT NULL,
    failures BIGINT NOT NULL,
    blocked_until TIMESTAMPTZ,
    updated_at TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (organization_id, subject)
);

-- ---- secrets --------------------------------------------------------------------------------------------------------

-- Which master keys this store was sealed with, and a known plaintext under each: decides at start whether the master
-- key at hand is the right one.
CREATE TABLE keyring_canary (
    key_id TEXT PRIMARY KEY,
    organization_id UUID NOT NULL REFERENCES organization (id),
    sealed BYTEA NOT NULL,
    created_at TIMESTAMPTZ NOT NULL
);

-- A write-only value. `sealed` opens only with its own id and version. `version` rises with every new value.
-- `endpoint_id`: made from a credential typed into that provider, and goes with it.
CREATE TABLE secret (
    id UUID PRIMARY KEY,
    organization_id UUID NOT NULL REFERENCES organization (id),
    name TEXT NOT NULL,
    version BIGINT NOT NULL,
    sealed BYTEA NOT NULL,
    last4 TEXT NOT NULL,
    endpoint_id UUID,
    revision BIGINT NOT NULL,
    created_at TIMESTAMPTZ NOT NULL,
    updated_at TIMESTAMPTZ NOT NULL
);
-- Lookup by name, the list in order of names.
CREATE UNIQUE INDEX secret_name ON secret (organization_id, name);

-- ---- catalogue ------------------------------------------------------------------------------------------------------

-- How a vendor's API is spoken. Built-in rows mirror the binary's data files (`digest` tells when a new binary brought
-- new ones), so that a change of them is a revision like any other.
CREATE TABLE template (
    id UUID NOT NULL,
    organization_id UUID NOT NULL REFERENCES organization (id),
    name TEXT NOT NULL,
    builtin BOOLEAN NOT NULL,
    digest BYTEA NOT NULL,
    spec JSONB NOT NULL,
    revision BIGINT NOT NULL,
    created_at TIMESTAMPTZ NOT NULL,
    updated_at TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (organization_id, id)
);
-- Lookup by name.
CREATE UNIQUE INDEX template_name ON template (organization_id, name);

-- A provider or a proxy: one namespace of names. `spec` is the draft; what is served is frozen in `deployment`, except
-- name and `disabled`, which are read from here; `live_revision` last changed one of these two.
CREATE TABLE endpoint (
    id UUID PRIMARY KEY,
    organization_id UUID NOT NULL REFERENCES organization (id),
    kind TEXT NOT NULL CHECK (kind IN ('provider', 'proxy')),
    name TEXT NOT NULL,
    context TEXT NOT NULL,
    secret_id UUID REFERENCES secret (id),
    disabled BOOLEAN NOT NULL,
    spec JSONB NOT NULL,
    live_revision BIGINT NOT NULL,
    revision BIGINT NOT NULL,
    created_at TIMESTAMPTZ NOT NULL,
    updated_at TIMESTAMPTZ NOT NULL
);
-- Lookup by name, the lists in order of names; one name for one endpoint of either kind.
CREATE UNIQUE INDEX endpoint_name ON endpoint (organization_id, name);
-- The check that contexts do not overlap.
CREATE UNIQUE INDEX endpoint_context ON endpoint (organization_id, context);
-- Who uses a secret.
CREATE INDEX endpoint_secret ON endpoint (secret_id);

-- The providers of a proxy's draft, in order.
CREATE TABLE proxy_target (
    organization_id UUID NOT NULL REFERENCES organization (id),
    proxy_id UUID NOT NULL REFERENCES endpoint (id) ON DELETE CASCADE,
    position BIGINT NOT NULL,
    provider_id UUID NOT NULL REFERENCES endpoint (id),
    PRIMARY KEY (proxy_id, position)
);
-- Which proxies stand on a provider.
CREATE INDEX proxy_target_provider ON proxy_target (provider_id);

-- A key that opens endpoints. `public_id` is the part that may be shown.
CREATE TABLE api_key (
    id UUID PRIMARY KEY,
    organization_id UUID NOT NULL REFERENCES organization (id),
    name TEXT NOT NULL,
    public_id TEXT NOT NULL,
    last4 TEXT NOT NULL,
    expires_at TIMESTAMPTZ,
    disabled BOOLEAN NOT NULL,
    revoked_at TIMESTAMPTZ,
    last_used_at TIMESTAMPTZ,
    revision BIGINT NOT NULL,
    created_at TIMESTAMPTZ NOT NULL,
    updated_at TIMESTAMPTZ NOT NULL
);
-- Lookup by name, the list in order of names.
CREATE UNIQUE INDEX api_key_name ON api_key (organization_id, name);

-- The live secrets of a key: one, and during the grace of a rotation two. `digest` is SHA-256 of the whole key.
CREATE TABLE api_key_secret (
    id UUID PRIMARY KEY,
    organization_id UUID NOT NULL REFERENCES organization (id),
    api_key_id UUID NOT NULL REFERENCES api_key (id) ON DELETE CASCADE,
    digest BYTEA NOT NULL UNIQUE,
    expires_at TIMESTAMPTZ,
    created_at TIMESTAMPTZ NOT NULL
);
-- The secrets of one key, and of all keys in a catalogue.
CREATE INDEX api_key_secret_key ON api_key_secret (organization_id, api_key_id);

-- What a key opens.
CREATE TABLE api_key_endpoint (
    organization_id UUID NOT NULL REFERENCES organization (id),
    api_key_id UUID NOT NULL REFERENCES api_key (id) ON DELETE CASCADE,
    endpoint_id UUID NOT NULL REFERENCES endpoint (id) ON DELETE CASCADE,
    PRIMARY KEY (api_key_id, endpoint_id)
);
-- Which keys open an endpoint.
CREATE INDEX api_key_endpoint_endpoint ON api_key_endpoint (endpoint_id, api_key_id);

-- ---- gateways -------------------------------------------------------------------------------------------------------

-- A deployment target with public base URLs.
CREATE TABLE gateway (
    id UUID PRIMARY KEY,
    organization_id UUID NOT NULL REFERENCES organization (id),
    name TEXT NOT NULL,
    spec JSONB NOT NULL,
    revision BIGINT NOT NULL,
    created_at TIMESTAMPTZ NOT NULL,
    updated_at TIMESTAMPTZ NOT NULL
);
-- Lookup by name, the list in order of names.
CREATE UNIQUE INDEX gateway_name ON gateway (organization_id, name);

-- What a node shows to connect: SHA-256 of the whole token. Revoked ones stay, for the record.
CREATE TABLE gateway_token (
    id UUID PRIMARY KEY,
    organization_id UUID NOT NULL REFERENCES organization (id),
    gateway_id UUID NOT NULL REFERENCES gateway (id) ON DELETE CASCADE,
    public_id TEXT NOT NULL,
    digest BYTEA NOT NULL UNIQUE,
    expires_at TIMESTAMPTZ,
    revoked_at TIMESTAMPTZ,
    last_used_at TIMESTAMPTZ,
    created_at TIMESTAMPTZ NOT NULL
);
-- The tokens of one gateway.
CREATE INDEX gateway_token_gateway ON gateway_token (organization_id, gateway_id, id);

-- A process of a gateway, known by its name; what it last acknowledged and what it refused. `status` is what the
-- control plane that holds its stream last wrote; `last_seen_at` tells whether to believe it.
CREATE TABLE node (
    id UUID PRIMARY KEY,
    organization_id UUID NOT NULL REFERENCES organization (id),
    gateway_id UUID NOT NULL REFERENCES gateway (id) ON DELETE CASCADE,
    name TEXT NOT NULL,
    boot UUID NOT NULL,
    version TEXT NOT NULL,
    status TEXT NOT NULL CHECK (status IN ('connected', 'applying', 'stale', 'draining', 'disconnected')),
    revision BIGINT NOT NULL,
    rejected JSONB NOT NULL,
    connected_at TIMESTAMPTZ NOT NULL,
    last_seen_at TIMESTAMPTZ NOT NULL,
    acked_at TIMESTAMPTZ
);
-- The nodes of one gateway, by name.
CREATE UNIQUE INDEX node_name ON node (gateway_id, name);

-- An endpoint's version on a gateway: the spec frozen as it was. Current while deploying, deployed, rejected or
-- undeploying; history afterwards. `secret_id` may name a secret that is gone, once it is history.
CREATE TABLE deployment (
    id UUID PRIMARY KEY,
    organization_id UUID NOT NULL REFERENCES organization (id),
    endpoint_id UUID NOT NULL REFERENCES endpoint (id) ON DELETE CASCADE,
    gateway_id UUID NOT NULL REFERENCES gateway (id),
    version BIGINT NOT NULL,
    status TEXT NOT NULL CHECK (status IN ('deploying', 'deployed', 'rejected', 'undeploying', 'undeployed')),
    context TEXT NOT NULL,
    secret_id UUID,
    spec JSONB NOT NULL,
    rejection JSONB,
    revision BIGINT NOT NULL,
    created_by TEXT NOT NULL,
    created_at TIMESTAMPTZ NOT NULL,
    deployed_at TIMESTAMPTZ
);
-- v1, v2, ... of one endpoint on one gateway.
CREATE UNIQUE INDEX deployment_version ON deployment (endpoint_id, gateway_id, version);
-- One current deployment per endpoint and gateway.
CREATE UNIQUE INDEX deployment_current ON deployment (endpoint_id, gateway_id)
    WHERE status IN ('deploying', 'deployed', 'rejected');
-- Which deployments use a secret.
CREATE INDEX deployment_secret ON deployment (secret_id);
-- What a gateway serves, and which contexts are taken on it.
CREATE INDEX deployment_gateway ON deployment (organization_id, gateway_id, status);
