-- What an API key is bound to beside its endpoints: models and addresses. `{}`: nothing.
ALTER TABLE api_key ADD COLUMN scope JSONB NOT NULL DEFAULT '{}';
