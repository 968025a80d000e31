-- What an answer told beside its totals. Null: unknown. The classes of tokens are disjoint parts of their totals.
ALTER TABLE usage_record ADD COLUMN input_audio_tokens BIGINT;
ALTER TABLE usage_record ADD COLUMN output_audio_tokens BIGINT;
-- The answer was cut short before the vendor had counted: tokens were worked out from what had passed.
ALTER TABLE usage_record ADD COLUMN estimated BOOLEAN NOT NULL DEFAULT FALSE;
ALTER TABLE usage_record ADD COLUMN first_token_us BIGINT;
ALTER TABLE usage_record ADD COLUMN finish_reason TEXT;
ALTER TABLE usage_record ADD COLUMN tool_calls BIGINT;
ALTER TABLE usage_record ADD COLUMN error_type TEXT;
