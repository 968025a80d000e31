-- The labels of one key, wherever it is read.
CREATE INDEX api_key_label_key ON api_key_label (api_key_id);
