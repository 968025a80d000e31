-- Rules about how much a key may be used, an array. Read with the key; no SQL looks inside.
ALTER TABLE api_key ADD COLUMN limits JSONB NOT NULL DEFAULT '[]';
